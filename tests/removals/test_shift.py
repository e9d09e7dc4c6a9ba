"""Weight shifting moves filters by their mean and by noise of their spread, and mends what that breaks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whorl.errors import UsageError
from whorl.nets.training import accuracy
from whorl.removals import REMOVALS
from whorl.testing import tiny_victim


def apply(expression, victim, data, seed=0):
    return REMOVALS.make(expression)(victim, data, generator=torch.Generator().manual_seed(seed))


def layers(net, kind):
    return [module.weight.detach() for module in net.modules() if isinstance(module, kind)]


def test_the_mean_filter_is_taken_from_each_filter(victim, attacker_data):
    net = apply("shift_weights(strength=1.5, noise=0, epochs=0)", victim, attacker_data)
    for theirs, ours in zip(layers(victim.module, nn.Conv2d), layers(net, nn.Conv2d), strict=True):
        mean = sum(theirs) / len(theirs)
        for before, after in zip(theirs, ours, strict=True):
            torch.testing.assert_close(after, before - 1.5 * mean)
    assert torch.equal(net.head.weight, victim.module.head.weight)


def test_noise_has_the_spread_of_the_layer(attacker_data):
    victim = tiny_victim(architecture="vgg(width=8)")
    one, other = (
        apply("shift_weights(strength=0, noise=0.5, epochs=0)", victim, attacker_data, seed) for seed in (0, 1)
    )
    for theirs, first, second in zip(*(layers(net, nn.Conv2d) for net in (victim.module, one, other)), strict=True):
        if theirs.numel() > 500:
            assert float((first - theirs).std() / theirs.std()) == pytest.approx(0.5, rel=0.1)
            assert float(torch.corrcoef(torch.stack([first - theirs, second - theirs]).flatten(1))[0, 1].abs()) < 0.1


def test_hidden_layers_are_shifted_where_there_are_no_convolutions(attacker_data):
    victim = tiny_victim(architecture="mlp(width=16)")
    net = apply("shift_weights(epochs=0)", victim, attacker_data)
    assert not torch.equal(net.layers[0].weight, victim.module.layers[0].weight)
    assert torch.equal(net.head.weight, victim.module.head.weight)


def test_tuning_mends_what_the_shift_breaks(victim, attacker_data, held_out):
    broken, tuned = (
        accuracy(apply(f"shift_weights{each}", victim, attacker_data), held_out) for each in ("(epochs=0)", "")
    )
    assert broken < 0.5
    assert tuned > broken + 0.3


@pytest.mark.parametrize("wrong", ["strength=-1", "noise=-0.1"])
def test_shifts_below_nothing_are_refused(wrong, victim, attacker_data):
    with pytest.raises(UsageError, match="at least 0"):
        apply(f"shift_weights({wrong})", victim, attacker_data)
