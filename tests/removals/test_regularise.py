"""Strong decay shrinks weights, smoothed labels shrink certainty, and both end in plain fine-tuning without either."""

from __future__ import annotations

import pytest
import torch

from whorl.data import SOURCES
from whorl.errors import UsageError
from whorl.nets.training import accuracy, build, predict
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS


def apply(expression, victim, data):
    return REMOVALS.make(expression)(victim, data, generator=torch.Generator().manual_seed(0))


def certainty(net, data):
    return float(predict(net, data.inputs()).softmax(1).amax(1).mean())


def size(net):
    return float(torch.cat([parameter.detach().flatten() for parameter in net.parameters()]).norm())


def same(one, other):
    return all(torch.equal(*pair) for pair in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("expression", ["regularise(decay_epochs=0, epochs=3)", "smooth_labels(smoothing=0, epochs=3)"])
def test_without_any_it_is_fine_tuning(expression, victim, attacker_data):
    assert same(apply(expression, victim, attacker_data), apply("fine_tune(all, epochs=3)", victim, attacker_data))


def test_decay_shrinks_the_weights_and_tuning_follows(victim, attacker_data, held_out):
    sizes = [size(apply(f"regularise(decay={each}, epochs=0)", victim, attacker_data)) for each in (0.0, 0.1, 0.5)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] < 0.95 * sizes[0]
    shrunk, tuned = (apply(f"regularise(epochs={epochs})", victim, attacker_data) for epochs in (0, 5))
    assert accuracy(tuned, held_out) > accuracy(victim.module, held_out) - 0.05
    assert not same(shrunk, tuned)


def test_smoothed_labels_leave_the_copy_less_sure(victim, attacker_data, held_out):
    copies = [apply(f"smooth_labels(smoothing={each})", victim, attacker_data) for each in (0, 0.1, 0.3)]
    found = [certainty(net, held_out) for net in copies]
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(0.73, abs=0.1), "the best answer to labels smoothed by 0.3 among 10 classes"


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("regularise(decay=-1)", "at least 0"),
        ("smooth_labels(smoothing=1)", "at least 0 and below 1"),
        ("smooth_labels(smoothing=-0.1)", "at least 0 and below 1"),
    ],
)
def test_settings_out_of_range_are_refused(expression, says, victim, attacker_data):
    with pytest.raises(UsageError, match=says):
        apply(expression, victim, attacker_data)


def test_numbers_have_no_labels_to_smooth():
    data = SOURCES.make("diabetes").load("attacker")
    net = build("mlp_regressor(width=8)", data.input_shape, 1, torch.Generator())
    victim = TorchOracle(net, input_shape=data.input_shape, classes=1, task="regression", name="ours")
    with pytest.raises(UsageError, match="needs classes; ours does regression"):
        apply("smooth_labels", victim, data)
