"""Adversarial extraction: the victim's labels, asked once, learnt and then hardened."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from whorl.data import SOURCES, Dataset
from whorl.errors import UsageError
from whorl.nets.training import Schedule, build, dimensions, fit, predict
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly
from whorl.removals import REMOVALS
from whorl.testing import tiny_victim
from whorl.types import Access

SETTINGS = "'mlp(width=32)', epochs=15, learning_rate=0.1"
HARD = f"extract_adversarial({SETTINGS}, epsilon=0.1, step=0.03, iterations=5, hardening_epochs=15)"


def steal(expression, victim, data):
    return REMOVALS.make(expression)(victim, data, generator=torch.Generator().manual_seed(0))


def robust_agreement(net, victim, data):
    """Share that still answers as the victim does, one sign step of .1 away from it."""
    labels, point = victim.labels(data.inputs()), data.inputs().clone().requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy(net(point), labels), point)
    moved = (point.detach() + 0.1 * slope.sign()).clamp(0, 1)
    return float((predict(net, moved).argmax(1) == labels).float().mean())


def test_agrees_with_the_victim_and_is_harder_to_fool(attacker_data, held_out):
    victim = LabelsOnly(tiny_victim())
    hard, plain = steal(HARD, victim, attacker_data), steal(f"extract({SETTINGS})", victim, attacker_data)
    agreement = float((predict(hard, held_out.inputs()).argmax(1) == victim.labels(held_out.inputs())).float().mean())
    assert agreement > 0.7
    assert robust_agreement(hard, victim, held_out) > robust_agreement(plain, victim, held_out) + 0.05


def test_labels_are_asked_once_and_those_of_the_data_are_not_used(attacker_data):
    victim = tiny_victim(Access.LABELS)
    one = steal(HARD, victim, attacker_data)
    assert victim.queries_spent == len(attacker_data)
    blind = Dataset(attacker_data.images, torch.zeros_like(attacker_data.labels), attacker_data.classes)
    assert torch.equal(one.head.weight, steal(HARD, victim, blind).head.weight)


def test_without_hardening_it_is_extraction(attacker_data):
    victim = tiny_victim(Access.LABELS)
    expression = f"extract_adversarial({SETTINGS}, hardening_epochs=0)"
    one, other = (steal(each, victim, attacker_data) for each in (expression, f"extract({SETTINGS})"))
    assert torch.equal(one.head.weight, other.head.weight)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("extract_adversarial(nosuch)", "nosuch"),
        ("extract_adversarial(mlp, iterations=0)", "iterations is a whole number of at least 1"),
        ("extract_adversarial(mlp_regressor)", "mlp_regressor.* does regression"),
    ],
)
def test_mistakes_cost_no_query(expression, says, victim, attacker_data):
    with pytest.raises(UsageError, match=says) as caught:
        steal(expression, victim, attacker_data)
    assert "\n" not in str(caught.value)
    assert victim.queries_spent == 0


def test_only_classes_are_extracted():
    data, chance = SOURCES.make("diabetes").load("attacker"), torch.Generator().manual_seed(0)
    shape, outputs = dimensions("mlp_regressor", data)
    net = build("mlp_regressor", shape, outputs, chance)
    fit(net, data, Schedule(epochs=1, learning_rate=0.01, batch=25), generator=chance)
    victim = TorchOracle(net, input_shape=shape, classes=outputs, task="regression", name="ours")
    for expression in ("extract_adversarial(mlp_regressor)", "scramble_boundary", "adversarial_train(trades)"):
        with pytest.raises(UsageError, match="ours does regression") as caught:
            steal(expression, victim, data)
        assert "\n" not in str(caught.value)
    assert victim.queries_spent == 0
