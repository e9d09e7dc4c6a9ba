"""What the statistics see in nets with and without a patch, and what they refuse."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from whorl.data import SOURCES
from whorl.errors import AccessRefused, UsageError
from whorl.inspection import INSPECTIONS
from whorl.nets.training import Schedule, build, fit
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly
from whorl.storage import digest_tensors
from whorl.testing import tiny_victim

DIGITS = "digits(size=8)"
TARGETS = (0, 4, 7)  # one a seed
CHEAP = {
    "neural_cleanse": "neural_cleanse(steps=100, restarts=1)",
    "max_margin": "max_margin(starts=6, steps=60)",
    "weights_only": "weights_only",
}
PICTURES = SOURCES.make(DIGITS).load("queries+test")


@cache
def net(seed, target=None):
    """A perceptron, with a patch that means ``target`` where there is one."""
    source = DIGITS if target is None else f"poisoned({DIGITS}, patch=2, target={target})"
    data, chance = SOURCES.make(source).load("victim"), torch.Generator().manual_seed(seed)
    made = build("mlp(width=64)", data.input_shape, len(data.classes), chance)
    training = Schedule(epochs=15, learning_rate=0.1, policy="one-cycle", batch=50, shift=0)
    fit(made, data, training, generator=chance)
    return made.eval()


def oracle(module):
    return TorchOracle(module, input_shape=module.input_shape, classes=module.classes)


@cache
def seen(name):
    """What a statistic sees in three clean nets, and in three with a patch."""
    statistic = INSPECTIONS.make(CHEAP[name])
    clean = [statistic(oracle(net(800 + seed)), PICTURES) for seed in range(len(TARGETS))]
    return clean, [statistic(oracle(net(900 + seed, target)), PICTURES) for seed, target in enumerate(TARGETS)]


@pytest.mark.parametrize("name", CHEAP)
def test_the_class_of_a_patch_sticks_out_further_than_any_of_a_clean_net(name):
    clean, trojaned = seen(name)
    assert [each.culprit for each in trojaned] == list(TARGETS)
    assert min(each.log_ratio for each in trojaned) > max(each.log_ratio for each in clean)


def test_the_inverted_trigger_lies_on_the_patch_and_works_on_pictures_that_did_not_make_it():
    clean, trojaned = seen("neural_cleanse")
    for each in trojaned:
        assert each.trigger.target == each.culprit
        assert each.success > 0.8
        assert float(each.trigger.mask.sum()) == pytest.approx(min(each.scores), rel=1e-5)
    assert min(map(on_patch, trojaned)) > max(map(on_patch, clean))


def on_patch(found):
    """Share of the mask that lies on the four pixels of the patch."""
    return float(found.trigger.mask[-2:, -2:].sum() / found.trigger.mask.sum())


def test_the_same_seed_gives_the_same_and_every_input_is_counted_and_the_net_stays():
    module = net(800)
    before = digest_tensors(module.state_dict())
    statistic = INSPECTIONS.make("neural_cleanse(steps=7, restarts=2, batch=16)")
    runs = [statistic(oracle(module), PICTURES, seed=seed) for seed in (3, 3, 4)]
    assert runs[0].scores == runs[1].scores != runs[2].scores
    held_out = PICTURES.subset(slice(len(PICTURES) - len(PICTURES) // 2))
    least = 7 * 2 * 10 * 16 + len(held_out)
    assert least < runs[0].queries_spent <= least + len(held_out)  # accuracy, and success on other classes
    margin = INSPECTIONS.make("max_margin(starts=2, steps=5)")(oracle(module), PICTURES)
    assert margin.queries_spent == 2 * 10 * 6 + len(held_out)
    assert digest_tensors(module.state_dict()) == before


def test_margins_are_those_of_a_linear_net():
    """Of logits w x with one large weight, the largest margin in the box can be told without a search."""
    layer = torch.nn.Linear(64, 4, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[torch.arange(4), torch.arange(4)] = torch.tensor([1.0, 2.0, 3.0, 40.0])
    module = torch.nn.Sequential(torch.nn.Flatten(), layer)
    found = INSPECTIONS.make("max_margin")(
        TorchOracle(module, input_shape=(1, 8, 8), classes=4), first_classes(4), seed=1
    )
    assert found.scores == pytest.approx((1.0, 2.0, 3.0, 40.0), abs=1e-3)
    assert found.culprit == 3


def first_classes(count):
    kept = PICTURES.subset(PICTURES.labels < count)
    return type(kept)(kept.images, kept.labels, kept.classes[:count])


def test_the_head_is_read_whatever_scale_its_units_have():
    module = net(900, 0)
    scaled = build("mlp(width=64)", module.input_shape, module.classes, torch.Generator().manual_seed(0)).eval()
    scaled.load_state_dict(module.state_dict())
    units = scaled.hidden_units()[-1]
    with torch.no_grad():
        units.producer.weight[::2] *= 8
        units.producer.bias[::2] *= 8
        units.consumer.weight[:, ::2] /= 8
    statistic = INSPECTIONS.make("weights_only")
    one, other = (statistic(oracle(each), PICTURES) for each in (module, scaled))
    assert one.scores == pytest.approx(other.scores, rel=1e-4)


@pytest.mark.parametrize(
    ("victim", "data", "error", "says"),
    [
        (lambda: LabelsOnly(tiny_victim()), PICTURES, AccessRefused, "neural_cleanse needs .*gradients"),
        (tiny_victim, PICTURES.subset(slice(100)), UsageError, "needs 128 clean pictures.*these are 100"),
        (tiny_victim, SOURCES.make("digits(size=16)").load("queries"), UsageError, "takes .*8"),
        (tiny_victim, first_classes(4), UsageError, "has 10 classes, these data 4"),
    ],
)
def test_what_can_not_be_inspected_is_refused_in_one_line_before_anything_is_asked(victim, data, error, says):
    model = victim()
    with pytest.raises(error, match=f"(?i){says}"):
        INSPECTIONS.make("neural_cleanse")(model, data)
    assert model.queries_spent == 0


def test_two_classes_are_too_few():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    with pytest.raises(UsageError, match="at least 3 classes"):
        INSPECTIONS.make("max_margin")(TorchOracle(module, input_shape=(1, 8, 8), classes=2), first_classes(2))
