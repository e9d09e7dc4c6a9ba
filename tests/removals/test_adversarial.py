"""Adversarial fine-tuning hardens the copy against the attack that it trains on."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from whorl.nets.training import accuracy
from whorl.removals import REMOVALS

EPSILON = 0.1


def robust_accuracy(net, data):
    """Share still right one sign step of ``EPSILON`` away."""
    point = data.inputs().clone().requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy(net(point), data.labels), point)
    moved = (point.detach() + EPSILON * slope.sign()).clamp(0, 1)
    with torch.no_grad():
        return float((net(moved).argmax(1) == data.labels).float().mean())


def test_harder_to_fool_than_the_victim(victim, attacker_data, held_out):
    def tuned(expression):
        return REMOVALS.make(expression)(victim, attacker_data, generator=torch.Generator().manual_seed(0))

    hard = tuned(f"adversarial_fine_tune(epsilon={EPSILON}, epochs=12, learning_rate=0.02)")
    plain = tuned("fine_tune(all, epochs=12, learning_rate=0.02)")
    assert robust_accuracy(hard, held_out) > robust_accuracy(victim.module, held_out) + 0.05
    assert robust_accuracy(hard, held_out) > robust_accuracy(plain, held_out) + 0.05, "not just more training"
    assert accuracy(hard, held_out) > 0.75
