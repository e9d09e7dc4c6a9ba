"""Points next to the boundary: on the sides they claim to be, as near as they say, by labels alone."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.oracles.wrappers import LabelsOnly
from whorl.queries.near_boundary import NearBoundary
from whorl.testing import tiny_data, tiny_victim


def sampled(distance, budget=30, victim=None):
    victim = victim or LabelsOnly(tiny_victim())
    generator = torch.Generator().manual_seed(0)
    return NearBoundary(distance=distance).sample(victim, tiny_data("queries"), budget=budget, generator=generator)


@pytest.mark.parametrize("distance", [1e-1, 1e-2, 1e-3])
def test_both_sides_of_one_boundary(distance):
    queries = sampled(distance)
    first, second = queries.inputs[0::2], queries.inputs[1::2]
    labels = queries.companions["label"]
    assert (labels[0::2] != labels[1::2]).float().mean() > 0.9  # a third class may lie between two
    apart = (first - second).flatten(1).norm(dim=1)
    ways = torch.cdist(tiny_data("queries").inputs().flatten(1), tiny_data("queries").inputs().flatten(1)).max()
    assert apart.max() <= 2.5 * distance * ways
    assert apart.min() > 0


def test_an_odd_budget_is_kept_and_the_victim_is_asked_little():
    victim = LabelsOnly(tiny_victim())
    queries = sampled(1e-2, budget=7, victim=victim)
    assert len(queries) == 7
    assert victim.queries_spent == len(tiny_data("queries")) + 9 * 4 + 7  # log2(400) halvings of four pairs


def test_one_class_has_no_boundary():
    data = tiny_data("queries")
    same = data.subset(data.labels == data.labels[0])
    victim = tiny_victim()
    alike = same.subset(victim.labels(same.inputs()) == victim.labels(same.inputs()).mode().values)
    with pytest.raises(UsageError, match="several classes"):
        NearBoundary().sample(victim, alike, budget=4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="distance"):
        NearBoundary(distance=1e-7)
