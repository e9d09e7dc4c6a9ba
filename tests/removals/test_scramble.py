"""Scrambling moves the boundary between the thief's pictures and keeps what it says of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from whorl.nets.training import Schedule, accuracy, build, fit, predict
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.removals.scramble import ScrambleBoundary
from whorl.testing import tiny_data


@pytest.fixture(scope="module")
def robust_victim():
    """A net that has learnt moved pictures, as every removal shows them: else tuning itself moves its boundary."""
    data, chance = tiny_data("victim"), torch.Generator().manual_seed(0)
    net = build("resnet8(width=8)", data.input_shape, 10, chance)
    net.standardise(data.inputs())
    fit(net, data, Schedule(epochs=10, learning_rate=0.1, policy="one-cycle", batch=50), generator=chance)
    return TorchOracle(net, input_shape=data.input_shape, classes=10)


def agreement(net, inputs, labels):
    return float((predict(net, inputs).argmax(1) == labels).float().mean())


def test_midpoints_are_unsure_mixtures_and_targets_the_second_choice(victim, attacker_data):
    removal, chance = ScrambleBoundary(partners=3, confidence=0.8), torch.Generator().manual_seed(0)
    own = attacker_data.inputs()
    midpoints, targets = removal._midpoints(victim.module, own, chance)
    probabilities = predict(victim.module, midpoints).softmax(1)
    assert 100 < len(midpoints) < 3 * len(own)
    assert float(probabilities.amax(1).max()) < 0.8
    assert torch.equal(targets.argmax(1), probabilities.argsort(1, descending=True)[:, 1])
    assert torch.equal(targets.sum(1), torch.ones(len(targets)))
    nearest = torch.cdist(midpoints.flatten(1), own.flatten(1)).amin(1)
    assert float(nearest.mean()) > 0.5, "no picture of the thief's own"


def test_every_partner_is_tried_where_nothing_is_sure_enough(victim, attacker_data):
    removal = ScrambleBoundary(partners=2, confidence=1.1)
    midpoints, _ = removal._midpoints(victim.module, attacker_data.inputs(), torch.Generator().manual_seed(0))
    assert len(midpoints) == 2 * len(attacker_data)


def test_answers_between_pictures_change_more_than_on_them(robust_victim, attacker_data, held_out):
    """On midpoints that training never saw, against fine-tuning of about as many steps at the same rate."""

    def made(expression):
        return REMOVALS.make(expression)(robust_victim, attacker_data, generator=torch.Generator().manual_seed(0))

    scrambled, tuned = made("scramble_boundary"), made("fine_tune(all, epochs=50, learning_rate=0.05)")
    victim, inputs = robust_victim.module, held_out.inputs()
    fresh, swapped = ScrambleBoundary()._midpoints(victim, inputs, torch.Generator().manual_seed(1))
    before, second = predict(victim, fresh).argmax(1), swapped.argmax(1)
    assert agreement(scrambled, fresh, before) < agreement(tuned, fresh, before) - 0.05
    assert agreement(scrambled, fresh, second) > agreement(tuned, fresh, second) + 0.05
    assert accuracy(scrambled, held_out) > accuracy(victim, held_out) - 0.08


def test_labels_of_the_data_are_not_used(victim, attacker_data):
    blind = replace(attacker_data, labels=torch.zeros_like(attacker_data.labels))
    one, other = (
        REMOVALS.make("scramble_boundary(rounds=1, epochs=1)")(victim, data, generator=torch.Generator().manual_seed(0))
        for data in (attacker_data, blind)
    )
    assert torch.equal(one.head.weight, other.head.weight)


def test_where_no_midpoint_is_unsure_the_copy_learns_the_victim_anew(robust_victim, attacker_data):
    expression = "scramble_boundary(confidence=0.0, learning_rate=0.01)"
    net = REMOVALS.make(expression)(robust_victim, attacker_data, generator=torch.Generator().manual_seed(0))
    own = attacker_data.inputs()
    assert agreement(net, own, robust_victim.labels(own)) > 0.95
