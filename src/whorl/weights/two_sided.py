"""Matching the hidden units on both axes of one tensor at once, without the rest of the net.

A weight tensor has units on its rows, which it writes, and on its columns, which it reads. With nothing else at hand
both orders are unknown: a quadratic assignment. What no order of the columns touches (sorted weights, place by place
of a kernel) gives a first matching of the rows, and the reverse; from there the two sides are assigned in turn, each
given the other. For a copy the first guess need not be good: each round's gains are the next one's.

Two tensors that share an axis (the writer and the reader of a layer, two writers of a residual stream) are matched
each for itself, so that they agree on the shared units by chance alone, unless the nets are copies. This asks for no
graph: two tensors that only happen to be of one width agree by chance in copies too, and cost no more than a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from whorl.symmetry.alignment.assignment import assign

__all__ = ["Sides", "balanced", "match_sides"]

ROUNDS: Final = 10
QUANTILES: Final = 128


@dataclass(frozen=True)
class Sides:
    """For each row and each column of one tensor its partner in the other, `ABSENT` (-1) where it has none.

    Shape:
        rows: ``[n]``, columns: ``[m]``, int64.
    """

    rows: Tensor
    columns: Tensor


def balanced(weight: Tensor, rounds: int = ROUNDS) -> Tensor:
    """All rows scaled to one norm and all columns to one norm, by turns (Sinkhorn & Knopp, 1967, on the squares).

    Positive factors of units, by which a ReLU net may be rescaled and norms folded, make no difference to the result.

    Shape:
        weight: ``[n, m, k]``, k places of a kernel; the same is returned, in float32.
    """
    weight = weight.float()
    for _ in range(rounds):
        for axis in (1, 0):
            size = weight.square().sum((axis, 2), keepdim=True).sqrt()
            weight = weight / torch.where(size > 0, size, 1.0)
    return weight


def match_sides(ours: Tensor, theirs: Tensor, *, generator: torch.Generator, rounds: int = ROUNDS) -> Sides:
    """Match rows and columns of two tensors whose sizes may differ, but for the kernel.

    Of two ascents, one from a guess of the rows and one of the columns, that with the larger inner product is kept.
    Units that are all zero, or one as the other, have no partner of their own: among them it is drawn, so that two
    tensors with generators of their own do not agree on them by the order in which they stand.

    Shape:
        ours: ``[n, m, k]``; theirs: ``[n', m', k]``.
    """
    up, across = (torch.randperm(size, generator=generator) for size in theirs.shape[:2])
    one, two = balanced(ours), balanced(theirs)[up][:, across]
    rows = _unordered(one, two)
    columns = _unordered(one.transpose(0, 1), two.transpose(0, 1))
    starts = Sides(rows, _columns(one, two, rows)), Sides(_rows(one, two, columns), columns)
    found = [_ascend(one, two, start, rounds) for start in starts]
    best = max(found, key=lambda sides: _product(one, two, sides))
    return Sides(_taken(up, best.rows), _taken(across, best.columns))


def _taken(order: Tensor, partners: Tensor) -> Tensor:
    return torch.where(partners >= 0, order[partners], partners)


def _unordered(one: Tensor, two: Tensor) -> Tensor:
    """The best rows, by what no order of the columns touches."""
    count = min(QUANTILES, one.shape[1], two.shape[1])
    return assign(_quantiles(one, count) @ _quantiles(two, count).T)


def _quantiles(weight: Tensor, count: int) -> Tensor:
    """Of each row over its columns, place by place of the kernel: ``[n, count * k]``."""
    places = torch.linspace(0, weight.shape[1] - 1, count)
    below, part = places.floor().long(), places.frac()[:, None]
    ordered = weight.sort(1).values
    above = (below + 1).clamp_max(weight.shape[1] - 1)
    return ((1 - part) * ordered[:, below] + part * ordered[:, above]).flatten(1)


def _rows(one: Tensor, two: Tensor, columns: Tensor) -> Tensor:
    """The best rows, given columns."""
    paired = columns >= 0
    return assign(one[:, paired].flatten(1) @ two[:, columns[paired]].flatten(1).T)


def _columns(one: Tensor, two: Tensor, rows: Tensor) -> Tensor:
    return _rows(one.transpose(0, 1), two.transpose(0, 1), rows)


def _ascend(one: Tensor, two: Tensor, sides: Sides, rounds: int) -> Sides:
    for _ in range(rounds):
        rows = _rows(one, two, sides.columns)
        columns = _columns(one, two, rows)
        if torch.equal(rows, sides.rows) and torch.equal(columns, sides.columns):
            break
        sides = Sides(rows, columns)
    return sides


def _product(one: Tensor, two: Tensor, sides: Sides) -> float:
    rows, columns = sides.rows >= 0, sides.columns >= 0
    mine, theirs = one[rows][:, columns], two[sides.rows[rows]][:, sides.columns[columns]]
    return float((mine * theirs).sum())
