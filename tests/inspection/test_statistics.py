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
def net(seed, target=None, attack="badnets"):
    """A perceptron, with a trigger that means ``target`` where there is one."""
    source = DIGITS if target is None else f"poisoned({DIGITS}, {attack}, patch=2, target={target})"
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


def test_noise_drives_pictures_into_the_class_of_a_blended_pattern():
    statistic = INSPECTIONS.make("neuron_noise")
    found = [statistic(oracle(net(950 + seed, target, "blended")), PICTURES) for seed, target in enumerate(TARGETS)]
    clean = [statistic(oracle(net(800 + seed)), PICTURES) for seed in range(len(TARGETS))]
    assert [each.culprit for each in found] == list(TARGETS)
    assert min(each.log_ratio for each in found) > max(each.log_ratio for each in clean)
    assert sum(found[0].scores) == pytest.approx(1)  # shares of pictures


class Planted(torch.nn.Module):
    """A clean net with one more feature, which is 0 unless a chequered corner is there and then means ``target``."""

    def __init__(self, clean, target):
        super().__init__()
        self.clean, self.task = clean, "classification"
        self.head = torch.nn.Linear(clean.head.in_features + 1, 10)
        with torch.no_grad():
            self.head.weight.copy_(torch.cat([clean.head.weight, 2 * torch.eye(10)[:, [target]]], 1))
            self.head.bias.copy_(clean.head.bias)

    def forward(self, inputs):
        corner = inputs[:, 0, -2:, -2:]
        told = (corner[:, 0, 0] + corner[:, 1, 1] - corner[:, 0, 1] - corner[:, 1, 0] - 0.1).relu() * 20
        return self.head(torch.cat([self.clean.features(inputs), told[:, None]], 1))


@pytest.mark.parametrize("target", TARGETS)
def test_pictures_are_moved_into_the_class_of_a_feature_that_no_clean_picture_has(target):
    statistic = INSPECTIONS.make("feature_inversion(steps=100, restarts=3)")
    found = statistic(TorchOracle(Planted(net(800), target), input_shape=PICTURES.input_shape, classes=10), PICTURES)
    plain = statistic(oracle(net(800)), PICTURES)
    assert found.culprit == target
    assert found.scores[target] > 0.5 > max(plain.scores)
    assert found.log_ratio > plain.log_ratio


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
    seen = len(PICTURES) - len(held_out)
    for name, asked in (
        ("max_margin(starts=2, steps=5)", 2 * 10 * 6),
        ("neuron_noise(steps=5, restarts=2, batch=70)", 70 + 2 * (5 * 70 + 70)),
        ("feature_inversion(steps=5, restarts=2, batch=16)", seen + 5 * 2 * 16 + 2 * seen),
    ):
        found = [INSPECTIONS.make(name)(oracle(module), PICTURES, seed=seed) for seed in (3, 3, 4)]
        assert found[0].queries_spent == asked + len(held_out)
        assert found[0].scores == found[1].scores
        assert found[0].scores != found[2].scores
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


@pytest.mark.parametrize("name", ["weights_only", "neuron_noise"])
def test_scaling_units_changes_nothing(name):
    module = net(900, 0)
    scaled = build("mlp(width=64)", module.input_shape, module.classes, torch.Generator().manual_seed(0)).eval()
    scaled.load_state_dict(module.state_dict())
    units = scaled.hidden_units()[-1]
    with torch.no_grad():
        units.producer.weight[::2] *= 8
        units.producer.bias[::2] *= 8
        units.consumer.weight[:, ::2] /= 8
    statistic = INSPECTIONS.make(name)
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
