"""Each strategy picks what it says, and the budget is spent exactly."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.nets.training import predict
from whorl.oracles.torch import frozen
from whorl.queries.deepfool import deepfool
from whorl.removals import REMOVALS
from whorl.removals.active import farthest, shares
from whorl.testing import tiny_net, tiny_victim
from whorl.types import Access

STRATEGIES = ("uncertainty", "k-centre", "deepfool", "deepfool-k-centre", "random")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def choice(strategy, data, *, count=20, settings="budget=50"):
    """What a strategy picks for a trained net when the first 100 pictures were asked about."""
    removal = REMOVALS.make(f"active(mlp, strategy={strategy}, {settings})")
    net = tiny_net(part="calibration")
    chosen = removal.choose(net, data.inputs(), torch.arange(100), count, generator())
    assert len(set(chosen.tolist())) == count
    assert int(chosen.min()) >= 100, "nothing is asked twice"
    return net, chosen


def test_greedy_centres_are_those_of_brute_force():
    points, centres = torch.rand(30, 3, generator=generator(1)), torch.rand(4, 3, generator=generator(2))
    taken = [*centres]
    expected = []
    for _ in range(6):
        gaps = [min(float((point - centre).norm()) for centre in taken) for point in points]
        expected.append(max(range(30), key=gaps.__getitem__))
        taken.append(points[expected[-1]])
    assert farthest(points, centres, 6).tolist() == expected


def test_equal_points_are_each_taken_once():
    assert sorted(farthest(torch.zeros(5, 2), torch.zeros(1, 2), 5).tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("budget", "rounds", "first"), [(200, 5, 0.2), (100, 7, 0.13), (10, 9, 0.1), (3, 1, 0.4)])
def test_shares_sum_to_the_budget_and_differ_by_one(budget, rounds, first):
    start, *each = shares(budget, rounds, first)
    assert start == round(first * budget)
    assert len(each) == rounds
    assert start + sum(each) == budget
    assert max(each) - min(each) <= 1


def test_uncertainty_picks_the_largest_entropies(attacker_data):
    net, chosen = choice("uncertainty", attacker_data)
    probabilities = predict(net, attacker_data.inputs()).softmax(1)
    entropy = -(probabilities * probabilities.clamp_min(1e-30).log()).sum(1)
    rest = torch.ones(len(attacker_data), dtype=torch.bool)
    rest[:100] = rest[chosen] = False
    assert float(entropy[chosen].min()) >= float(entropy[rest].max())


def test_deepfool_picks_those_nearest_to_the_boundary(attacker_data):
    net, chosen = choice("deepfool", attacker_data)
    lengths = deepfool(frozen(net), attacker_data.inputs()).lengths
    rest = torch.ones(len(attacker_data), dtype=torch.bool)
    rest[:100] = rest[chosen] = False
    assert float(lengths[chosen].max()) <= float(lengths[rest].min()) + 1e-4


def test_deepfool_and_centres_picks_centres_among_the_nearest(attacker_data):
    net, chosen = choice("deepfool-k-centre", attacker_data)
    lengths = deepfool(frozen(net), attacker_data.inputs()[100:]).lengths
    nearest = 100 + lengths.argsort()[:50]
    assert set(chosen.tolist()) <= set(nearest.tolist())
    probabilities = predict(net, attacker_data.inputs()).softmax(1)
    expected = nearest[farthest(probabilities[nearest], probabilities[:100], 20)]
    assert set(chosen.tolist()) == set(expected.tolist())
    assert set(chosen.tolist()) != set(choice("deepfool", attacker_data)[1].tolist())


def test_deepfool_looks_at_no_more_than_the_candidates(attacker_data):
    """With as few candidates as picks, it is a random choice."""
    _, chosen = choice("deepfool", attacker_data, settings="budget=50, candidates=20")
    _, drawn = choice("random", attacker_data)
    assert set(chosen.tolist()) == set(drawn.tolist())


def test_centres_cover_what_was_not_asked(attacker_data):
    """The farthest picture that is left is nearer to what was asked than after a random choice."""

    def radius(strategy):
        net, chosen = choice(strategy, attacker_data)
        probabilities = predict(net, attacker_data.inputs()).softmax(1)
        asked = torch.cat([torch.arange(100), chosen])
        return float(torch.cdist(probabilities, probabilities[asked]).amin(1).max())

    assert radius("k-centre") < radius("random") - 0.02


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_budget_is_spent_to_the_last_query(strategy, attacker_data):
    victim = tiny_victim(Access.LABELS)
    removal = REMOVALS.make(f"active('mlp(width=8)', strategy={strategy}, budget=47, rounds=3, epochs=1)")
    removal(victim, attacker_data, generator=generator())
    assert victim.queries_spent == 47


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("budget=450", "holds 449 pictures and 450"),
        ("budget=5, rounds=5", "too small for 5 rounds"),
        ("first=0.0", "too small"),
        ("first=1.0", "too small"),
        ("rounds=0", "rounds is a whole number"),
        ("strategy=greedy", "strategy is uncertainty"),
        ("answers=logits", "labels or probabilities"),
    ],
)
def test_mistakes_cost_no_query(settings, says, attacker_data):
    victim = tiny_victim()
    with pytest.raises(UsageError, match=says):
        REMOVALS.make(f"active('mlp(width=8)', {settings})")(victim, attacker_data, generator=generator())
    assert victim.queries_spent == 0
