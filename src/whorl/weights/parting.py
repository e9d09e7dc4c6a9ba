"""Who came first of two nets that training moved: told only where rows that neither touched vouch for it.

Where two nets parted is estimated tensor by tensor (`whorl.weights.history.branch_point`): a descent parts at its base,
siblings in between. What training does to weights besides learning is as large as that: decay draws them to zero, what
is learned further grows, what is forgotten shrinks, and a sibling that was tuned little looks like its parent. Over
descents and siblings of many kinds no figure of the movement alone separates the two (`docs/lineage-measured.md`).

Three things that can be seen together do. A table of tokens has rows that a tuning did not touch:

- They are those of the other net, times one factor: what decay took, exactly. It is taken out of all tensors, and the
  net with less of them cannot have come first.
- Two trainings would have touched other rows, or the same by other amounts: rows that one alone touched, little beside
  the rest, are looked for. One training moves rows evenly.
- With decay out, the interval of the branch point over tensors of hidden layers lies at one of the two ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from whorl.weights.changes import TensorChange
from whorl.weights.operation import Direction

__all__ = ["STUDIED", "Parting", "Studied", "Table", "parting", "table_of"]

LEAST: Final = 16  # rows that were touched, and rows that were not
EXACT: Final = (
    3e-5  # of a row that may be another's times a number: rounding of many steps of decay in single precision
)
ONE: Final = 1e-7  # by which a factor differs from 1
LITTLE: Final = 0.02  # the share of touched rows that is looked at as those touched least
# Chosen on the eleven bases that `benchmarks/lineage_direction.py` does not measure.
EVEN: Final = 0.5  # of the median movement, by which the least touched rows moved too
EVEN_WITH_DECAY: Final = 0.3  # where decay says the same
NEAR: Final = (-0.5, 0.35)  # where the interval of a branch point lies if it is at an end
TENSORS: Final = 3
LEVEL: Final = 0.95


@dataclass(frozen=True)
class Studied:
    """How often who came first was told by movement in a study, and how often ``wrong``.

    ``interval`` is that of the share of wrong ones, at 95 %, over the bases of the study.
    """

    wrong: int
    told: int
    interval: tuple[float, float]


STUDIED: Final = Studied(5, 32, (0.1, 0.214))
"""By ``benchmarks/lineage_direction.py``, "wrong among told"; ``benchmarks/results/lineage-direction.json``."""


@dataclass(frozen=True)
class Table:
    """Rows of one tensor in two nets: how many were ``untouched`` and ``touched``, and how.

    ``factor`` is that by which untouched rows of A are those of B, and ``evenness`` the movement of the rows that were
    touched least over the median of the others, from 0 to 1.
    """

    untouched: int
    touched: int
    factor: float
    evenness: float


@dataclass(frozen=True)
class Parting:
    """What the movement says: the interval from ``low`` to ``high`` of the branch point, decay taken out, and who was
    ``first``. 0 is A and 1 is B, as of the branch point.
    """

    low: float
    high: float
    table: Table
    first: Direction


def table_of(ours: Tensor, theirs: Tensor) -> Table | None:
    """What became of the rows of a table; None where too few were touched, or left alone.

    Shape:
        ours, theirs: ``[rows, n]`` alike.
    """
    one, two = ours.double(), theirs.double()
    held = (one.norm(dim=1) > 0) & (two.norm(dim=1) > 0)
    one, two = one[held], two[held]
    if len(one) < 2 * LEAST:
        return None
    factors = (one * two).sum(1) / one.square().sum(1)
    same = ((two - factors[:, None] * one).norm(dim=1) < EXACT * two.norm(dim=1)) & (factors > 0)
    if int(same.sum()) < LEAST:
        return None
    factor = float(factors[same].median())
    same &= (factors - factor).abs() < EXACT * factor
    moved = ((two - factor * one).norm(dim=1) / (factor * one.norm(dim=1)))[~same]
    if int(same.sum()) < LEAST or len(moved) < LEAST:
        return None
    factor = 1.0 if abs(factor - 1) < ONE else factor
    evenness = float(torch.quantile(moved, LITTLE) / moved.median())
    return Table(int(same.sum()), len(moved), factor, evenness)


def parting(changes: Sequence[TensorChange], tables: Iterable[Table]) -> Parting | None:
    """What tensors say whose movement tells where they parted; None without a table, or with tables that disagree."""
    found = [*tables]
    if not found or len({(each.factor > 1) - (each.factor < 1) for each in found}) > 1:
        return None
    table = min(found, key=lambda each: each.evenness)
    points = np.array([_point(change, table.factor) for change in changes if change.branch is not None])
    if len(points) < TENSORS:
        return None
    half = float(stdtrit(len(points) - 1, (1 + LEVEL) / 2) * points.std(ddof=1) / len(points) ** 0.5)
    low, high = float(points.mean()) - half, float(points.mean()) + half
    first: Direction = "undetermined"
    if table.evenness >= (EVEN if table.factor == 1 else EVEN_WITH_DECAY):
        if NEAR[0] < low and high < NEAR[1] and table.factor <= 1:
            first = "A first"
        elif NEAR[0] < 1 - high and 1 - low < NEAR[1] and table.factor >= 1:
            first = "B first"
    return Parting(low, high, table, first)


def _point(change: TensorChange, factor: float) -> float:
    """The branch point of a tensor between A times a factor, and B: <kA - B, kA> / |kA - B|^2."""
    assert change.branch is not None
    size = change.relative**2  # |B - A|^2, where |A| is 1
    along, rest = -change.branch * size, 1 - factor  # <A, B - A>; B - kA = (B - A) + (1 - k) A
    apart = size + 2 * rest * along + rest**2
    return -factor * (along + rest) / max(apart, 1e-300)
