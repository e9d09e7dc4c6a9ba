"""Adversarial training hardens the copy against the attack that it trains on."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from whorl.errors import UsageError
from whorl.nets.training import accuracy
from whorl.removals import REMOVALS
from whorl.removals.adversarial import Ball

EPSILON = 0.1


def robust_accuracy(net, data):
    """Share still right one sign step of ``EPSILON`` away."""
    point = data.inputs().clone().requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy(net(point), data.labels), point)
    moved = (point.detach() + EPSILON * slope.sign()).clamp(0, 1)
    with torch.no_grad():
        return float((net(moved).argmax(1) == data.labels).float().mean())


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [
        ("adversarial_fine_tune(", 12),
        ("adversarial_train(pgd, step=0.03, iterations=5, ", 12),
        ("adversarial_train(trades, step=0.03, iterations=5, beta=2, ", 25),
    ],
    ids=["FGSM", "PGD", "TRADES"],
)
def test_harder_to_fool_than_the_victim(settings, epochs, victim, attacker_data, held_out):
    def tuned(expression):
        return REMOVALS.make(expression)(victim, attacker_data, generator=torch.Generator().manual_seed(0))

    hard = tuned(f"{settings}epsilon={EPSILON}, epochs={epochs}, learning_rate=0.02)")
    plain = tuned(f"fine_tune(all, epochs={epochs}, learning_rate=0.02)")
    assert robust_accuracy(hard, held_out) > robust_accuracy(victim.module, held_out) + 0.05
    assert robust_accuracy(hard, held_out) > robust_accuracy(plain, held_out) + 0.05, "not just more training"
    assert accuracy(hard, held_out) > 0.75


@pytest.fixture
def linear():
    """Logits (0, w x) of inputs ``[n, 1, 1, 4]``, whose worst point in a ball is a corner that is known."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    net[1].weight.data = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, -2.0, 3.0, -0.5]])
    return net


def climbed(net, inputs, labels, ball, start=None):
    """Where the ball's climb of cross-entropy ends."""
    start = inputs if start is None else start
    return ball.climb(lambda point: cross_entropy(net(point), labels), inputs, start)


@pytest.mark.parametrize("ball", [Ball(0.1, 0.1, 1), Ball(0.1, 0.03, 4), Ball(0.1, 1.0, 2)], ids=str)
def test_the_worst_point_of_a_linear_model_is_a_corner_of_the_ball(linear, ball):
    inputs = torch.full((3, 1, 1, 4), 0.5)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])
    towards = climbed(linear, inputs, torch.zeros(3, dtype=torch.int64), ball)
    away = climbed(linear, inputs, torch.ones(3, dtype=torch.int64), ball)
    torch.testing.assert_close(towards, inputs + 0.1 * signs)
    torch.testing.assert_close(away, inputs - 0.1 * signs)


def test_points_stay_in_the_ball_and_among_pictures(linear):
    chance = torch.Generator().manual_seed(0)
    inputs, ball = torch.rand(40, 1, 1, 4, generator=chance), Ball(0.2, 0.15, 5)
    start = ball.random(inputs, chance)
    assert float((start - inputs).abs().max()) > 0.18
    for point in (start, climbed(linear, inputs, torch.zeros(40, dtype=torch.int64), ball, start)):
        assert float((point - inputs).abs().max()) <= 0.2 + 1e-6
        assert 0 <= float(point.min()) <= float(point.max()) <= 1


def test_both_losses_are_the_plain_one_without_a_ball(victim, attacker_data):
    """With epsilon = 0 nothing moves: PGD is fine-tuning of the same steps, and the second term of TRADES is zero."""

    def tuned(expression):
        return REMOVALS.make(expression)(victim, attacker_data, generator=torch.Generator().manual_seed(0))

    pgd, trades = (tuned(f"adversarial_train({method}, epsilon=0, epochs=1)") for method in ("pgd", "trades"))
    other = tuned("adversarial_train(trades, epsilon=0, beta=100, epochs=1)")
    assert all(torch.isfinite(value).all() for value in pgd.state_dict().values())
    for key, value in trades.state_dict().items():
        if "running" not in key and "batches" not in key:
            torch.testing.assert_close(value, other.state_dict()[key], rtol=0, atol=1e-5)


def test_norms_learn_from_what_is_trained_on_alone(victim, attacker_data):
    """Looking for examples takes many forward passes; each step moves the norms once."""
    expression = "adversarial_train(pgd, iterations=9, epochs=1)"
    net = REMOVALS.make(expression)(victim, attacker_data, generator=torch.Generator().manual_seed(0))
    moved = int(net.stem[1].num_batches_tracked - victim.module.stem[1].num_batches_tracked)
    assert moved == len(attacker_data) // 100


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("adversarial_train(fgsm)", "pgd or trades, not fgsm"),
        ("adversarial_train(epsilon=-1)", "a number from 0 to 1"),
        ("adversarial_train(iterations=0)", "iterations is a whole number of at least 1"),
    ],
)
def test_mistakes_in_settings_are_named(expression, says, victim, attacker_data):
    with pytest.raises(UsageError, match=says) as caught:
        REMOVALS.make(expression)(victim, attacker_data, generator=torch.Generator())
    assert "\n" not in str(caught.value)
