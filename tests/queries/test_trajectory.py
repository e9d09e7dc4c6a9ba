"""Trajectories against what they promise, and a linear model on which the scale of the steps is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whorl.errors import AccessRefused, UsageError
from whorl.oracles.torch import TorchOracle
from whorl.queries.trajectory import Trajectory, walk
from whorl.testing import tiny_data, tiny_victim
from whorl.types import Access

SAMPLER = Trajectory(length=8, crossings=3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def queries():
    return SAMPLER.sample(tiny_victim(), tiny_data("victim"), budget=20, generator=generator())


def test_each_crossing_meets_its_class_in_the_middle(queries, victim):
    """On the victim itself, not on the folded copy that the walk runs on."""
    assert queries.inputs.shape == (20, 24, 1, 8, 8)
    labels = victim.labels(queries.inputs.flatten(0, 1)).view(20, 3, 8)
    targets, controlled = queries.companions["targets"], queries.companions["controlled"]
    arrived = labels == targets[:, :, None]
    assert float(controlled.float().mean()) == pytest.approx(queries.notes["controlled"])
    assert queries.notes["controlled"] > 0.8
    assert not bool(arrived[:, :, :3][controlled].any())
    assert bool(arrived[:, :, 3][controlled].all())
    assert float(arrived[:, :, 7][controlled].float().mean()) > 0.85, "large steps may lead on into yet another class"


def test_classes_are_new_ones(queries, victim):
    source, targets = queries.companions["source"], queries.companions["targets"]
    assert torch.equal(source, victim.labels(queries.companions["seeds"]))
    visited = torch.cat([source[:, None], targets], 1)
    assert all(len(set(row)) == 4 for row in visited.tolist())
    assert len({tuple(row) for row in targets.tolist()}) > 5


def test_steps_shrink_and_grow_again(queries):
    """The largest pixel change of a step is its size, or less where all pixels that would move are at the edge."""
    points = torch.cat([queries.companions["seeds"][:, None], queries.inputs], 1)
    sizes = (points[:, 1:] - points[:, :-1]).flatten(2).abs().amax(2).view(20, 3, 8)
    shape = torch.tensor([0.9**power for power in (0, 1, 2, 3, 3, 2, 1, 0)])
    ratio = sizes / sizes[:, :, :1]
    assert bool((ratio <= shape + 1e-3).all())
    assert float((ratio >= shape - 1e-3).float().mean()) > 0.95


def test_a_linear_boundary_is_met_by_bracketing():
    """Two classes and one pixel in 0..1: from .2 the boundary at .5 lies .3 away, so the four steps span it."""

    class Line(nn.Module):
        def forward(self, x):
            value = x.flatten(1).sum(1, keepdim=True)
            return torch.cat([0.5 - value, value - 0.5], 1)

    seeds = torch.full((5, 1, 1, 1), 0.2)
    sampler = Trajectory(length=8, decay=0.5, step=0.01)
    scale, controlled = sampler._control(Line(), seeds, torch.ones(5, dtype=torch.long))
    assert bool(controlled.all())
    whole, short = 1 + 0.5 + 0.25 + 0.125, 1 + 0.5 + 0.25
    assert 0.3 / whole < float(scale[0]) <= 0.3 / short


def test_what_cannot_be_reached_is_said():
    """The second class is never predicted; the walk goes as far as it may and ends in the box."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].bias.copy_(torch.tensor([5.0, 0.0]))
    oracle = TorchOracle(net, input_shape=(1, 8, 8), classes=2)
    queries = Trajectory(crossings=9, length=4).sample(oracle, tiny_data("victim"), budget=3, generator=generator())
    assert queries.inputs.shape == (3, 4, 1, 8, 8)
    assert queries.notes["controlled"] == 0.0
    assert queries.notes["crossings"] == 1


def test_walk_follows_the_lead_of_the_target(victim):
    inputs = tiny_data("victim").inputs(slice(0, 6))
    target = (victim.labels(inputs) + 1) % 10
    points, logits = walk(victim.differentiable(), inputs, target, torch.full((6, 2), 0.01))
    assert len(points) == len(logits) == 2
    torch.testing.assert_close(logits[-1], victim.logits(points[-1]), rtol=0, atol=1e-3)

    def lead(scores):
        own = scores.gather(1, target[:, None]).squeeze(1)
        return own - scores.scatter(1, target[:, None], -torch.inf).amax(1)

    assert bool((lead(logits[0]) > lead(victim.logits(inputs))).all())
    assert float((points[0] - inputs).abs().max()) == pytest.approx(0.01, abs=1e-6)


def test_refusals():
    for broken in ({"length": 3}, {"length": 0}, {"crossings": 0}):
        with pytest.raises(UsageError, match=r"is an even number from 2 on|is a whole number of at least 1"):
            Trajectory(**broken)
    blind = tiny_victim(Access.LOGITS)
    with pytest.raises(AccessRefused, match=r"(?i)gradient"):
        SAMPLER.sample(blind, tiny_data("victim"), budget=2, generator=generator())
    assert blind.queries_spent == 0
