"""CW-L2 finds targeted changes that are as small as foolbox's."""

from __future__ import annotations

import foolbox
import pytest
import torch

from whorl.queries.carlini_wagner import CarliniWagner
from whorl.testing import tiny_data, tiny_victim

BUDGET = 16
SETTINGS = {"searches": 5, "iterations": 200, "learning_rate": 0.05, "initial": 1.0}


@pytest.fixture(scope="module")
def victim():
    return tiny_victim(architecture="mlp(width=32)")


def sampled(victim, **settings):
    return CarliniWagner(**SETTINGS, **settings).sample(
        victim, tiny_data("victim"), budget=BUDGET, generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("margin", [0.0, 3.0])
def test_converged_points_reach_the_target_with_confidence(victim, margin):
    queries = sampled(victim, margin=margin)
    found = queries.companions["squared_distance"] >= 0
    assert queries.notes["converged"] == float(found.float().mean()) > 0.9
    logits, target = victim.logits(queries.inputs[found]), queries.companions["target"][found]
    wanted = logits.gather(1, target[:, None]).squeeze(1)
    others = logits.scatter(1, target[:, None], -torch.inf).amax(1)
    assert float((wanted - others).min()) >= margin - 1e-3
    squared = (queries.inputs - queries.companions["seeds"]).square().sum((1, 2, 3))
    torch.testing.assert_close(squared[found], queries.companions["squared_distance"][found], rtol=1e-4, atol=1e-5)
    assert torch.equal(queries.inputs[~found], queries.companions["seeds"][~found])


def test_as_close_as_foolbox(victim):
    """The same attack with the same settings; the two differ in how they stop and in rounding, so medians compare."""
    queries = sampled(victim, margin=1.0)
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=SETTINGS["searches"],
        steps=SETTINGS["iterations"],
        stepsize=SETTINGS["learning_rate"],
        confidence=1.0,
        initial_const=SETTINGS["initial"],
        abort_early=False,
    )
    model = foolbox.PyTorchModel(victim.differentiable(), bounds=(0, 1))
    criterion = foolbox.criteria.TargetedMisclassification(queries.companions["target"])
    theirs, _, success = attack(model, queries.companions["seeds"], criterion, epsilons=None)
    found = queries.companions["squared_distance"] >= 0
    assert abs(int(found.sum()) - int(success.sum())) <= 1
    both = found & success
    assert int(both.sum()) >= 0.75 * BUDGET
    lengths = [(each - queries.companions["seeds"])[both].flatten(1).norm(dim=1) for each in (queries.inputs, theirs)]
    assert float(lengths[0].median()) == pytest.approx(float(lengths[1].median()), rel=0.05)
    assert float((lengths[0] / lengths[1]).max()) < 1.25


def test_more_searches_come_closer(victim):
    def median(searches):
        found = CarliniWagner(margin=1.0, **(SETTINGS | {"searches": searches})).sample(
            victim, tiny_data("victim"), budget=BUDGET, generator=torch.Generator().manual_seed(0)
        )
        distances = found.companions["squared_distance"]
        return float(distances[distances >= 0].median())

    assert median(6) < median(2)


def test_a_target_out_of_reach_leaves_the_seed(victim):
    queries = sampled(victim, margin=1e6)
    assert queries.notes["converged"] == 0
    assert torch.equal(queries.inputs, queries.companions["seeds"])
    assert bool((queries.companions["squared_distance"] == -1).all())
