"""Points a hair's breadth from the victim's boundary, on either side of it, found by its labels alone.

Between two pictures of different labels the victim changes its mind somewhere. Halving the way there finds the place,
and a small step to each side of it leaves two points whose labels a small move of the boundary turns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.base import Sampler, draw
from whorl.types import Access, Queries

__all__ = ["NearBoundary"]


@dataclass(frozen=True, kw_only=True)
class NearBoundary(Sampler):
    """Two points of each way between two pictures, ``distance`` of the way before the boundary and as much behind it.

    Small distances see small changes; one below what another batch size or runtime moves the boundary by would take
    that for a change. The victim is asked some log2(4 / distance) times for each pair.
    """

    needs_victim: ClassVar[Access] = Access.LABELS
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/label": Layout("n", "int64", 0, "k"),
    }

    distance: Annotated[float, Gt(1e-5), Lt(0.5)] = 1e-3

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """The points, near side first, with the victim's ``label`` of each.

        Raises:
            UsageError: too few pictures, or pairs of them that the victim labels otherwise.
        """
        pictures = data.inputs(draw(data, len(data), generator))
        labels, before = victim.labels(pictures), victim.queries_spent
        starts, ends = _pairs(labels, -(-budget // 2))
        low = torch.zeros(len(starts), dtype=torch.float64)
        high, shape = torch.ones_like(low), (-1, *[1] * (pictures.ndim - 1))

        def at(shares: Tensor) -> Tensor:
            return torch.lerp(pictures[starts], pictures[ends], shares.view(shape).to(pictures.dtype))

        for _ in range(math.ceil(math.log2(4 / self.distance))):
            middle = (low + high) / 2
            same = victim.labels(at(middle)) == labels[starts]
            low, high = torch.where(same, middle, low), torch.where(same, high, middle)
        points = torch.stack([at((low - self.distance).clamp_min(0)), at((high + self.distance).clamp_max(1))], 1)
        points = points.flatten(0, 1)[:budget]
        said = victim.labels(points)
        return Queries(points, {"label": said}, {"asked_of_victim": victim.queries_spent - before})


def _pairs(labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Positions of ``count`` pictures and of a later one, as few places on as can be, that has another label."""
    found: list[tuple[int, int]] = []
    size = len(labels)
    for step in range(1, size):
        for start in range(size):
            end = (start + step) % size
            if len(found) < count and labels[start] != labels[end]:
                found.append((start, end))
        if len(found) >= count:
            starts, ends = zip(*found, strict=True)
            return torch.tensor(starts), torch.tensor(ends)
    raise UsageError(
        f"the victim labels {len(found)} pairs of these {size} pictures otherwise, and {count} are needed: give more "
        "pictures, of several classes, or ask for fewer"
    )
