"""Tests of independence for nets of any kind, convolutional ones included, by names and shapes alone.

Where no architecture is known, tensors are paired by name, and those whose names only one net has by shape, in the
order of their names. An axis of a tensor is one of hidden units where another tensor has as many on its other side: it
reads what the first writes. The rows of a classifier (classes), those of an embedding (tokens) and the columns of a
first layer (colours, pixels) have an order of their own and are left out.

- Places and ranks of rows are exact, and evaded by permuting units. Two tensors may share one permutation (a residual
  stream), so their p-values are not independent: they are combined by Bonferroni's bound.
- Two matchings: each tensor that has hidden units on both axes is matched with its partner by itself
  (`whorl.weights.two_sided`), whatever the order and the positive factors of units in either net. Two tensors that
  share units then agree on them in copies, and by chance in strangers. Not exact: nets of one kind of data may learn
  units that are alike. It was measured how many (`benchmarks/lineage_vision_size.py`: 1.05 to 1.24 agreements of 16 to
  64 units, where 1 is chance, in nets trained to the end); the law that is used expects 1 and `ALIKE` of all units.
  Tensors that touch pixels or classes are left out for this: a last layer and its head agree on 4.3 of 64 in strangers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

import torch
from torch import Tensor

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.detection.exact import bonferroni, log_poisson_tail
from whorl.weights.findings import Finding, Observation
from whorl.weights.independence import ALIKE, Ranks, constrained, fixed_points, rank_law
from whorl.weights.two_sided import match_sides

__all__ = ["Pair", "hidden_rows", "paired_tensors", "unnamed_findings"]

LEAST: Final = 8  # units below which no order is surprising
MOST: Final = 4096  # units that are matched one to one; the cost grows with the cube
WIDEST: Final = 1024  # units on either axis of a tensor whose two axes are matched, some forty times over
TENSORS: Final = 32  # of them, the smallest first
DRAWS: Final = 9999

Shape = tuple[int, ...]


class Pair(NamedTuple):
    """A tensor of each net that are held against each other, and the place among all pairs."""

    number: int
    ours: str
    theirs: str


def paired_tensors(first: Checkpoint, second: Checkpoint) -> list[Pair]:
    """Tensors with two axes or more: by name, the rest by shape where both have equally many of one."""
    shapes = [
        {name: entry.shape for name, entry in net.entries.items() if len(entry.shape) >= 2} for net in (first, second)
    ]
    same = [name for name in shapes[0] if name in shapes[1]]
    left = [sorted((name for name in each if name not in same), key=_natural) for each in shapes]
    names = [(name, name) for name in same]
    for shape in dict.fromkeys(shapes[0][name] for name in left[0]):
        alike = [[name for name in rest if each[name] == shape] for rest, each in zip(left, shapes, strict=True)]
        if len(alike[0]) == len(alike[1]):
            names += zip(*alike, strict=True)
    return [Pair(number, *both) for number, both in enumerate(sorted(names, key=lambda both: _natural(both[0])))]


def _natural(name: str) -> list[tuple[int, str]]:
    """An order in which layer 10 comes after layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def hidden_rows(first: Checkpoint, second: Checkpoint) -> list[Pair]:
    """Pairs of one shape whose rows are units that another tensor reads."""
    return [
        pair
        for pair in paired_tensors(first, second)
        if (shape := first.entries[pair.ours].shape) == second.entries[pair.theirs].shape
        and shape[0] >= LEAST
        and any(_reads(other, shape) for other in _others(first, pair.ours))
    ]


def _others(net: Checkpoint, name: str) -> list[Shape]:
    """Shapes of the other tensors that may write or read several units."""
    shapes = [entry.shape for other, entry in net.entries.items() if other != name]
    return [shape for shape in shapes if len(shape) >= 2 and shape[0] > 1]


def _reads(reader: Shape, shape: Shape) -> bool:
    """Whether a tensor may read the rows of another; a dense layer reads a convolution's channels at several places."""
    rows, inputs = shape[0], reader[1]
    return inputs == rows or (len(shape) > 2 and len(reader) == 2 and inputs % rows == 0)


def unnamed_findings(first: Checkpoint, second: Checkpoint) -> list[Finding]:
    """Places and ranks of the rows of every tensor that admits the tests, and matchings of those with two such axes."""
    return [*_in_order(first, second), *_in_any_order(first, second)]


def _in_order(first: Checkpoint, second: Checkpoint) -> Iterator[Finding]:
    places: list[Observation] = []
    ranks: list[Observation] = []
    fixed = units = 0
    for number, name, theirs_name in hidden_rows(first, second):
        ours, theirs = first.read(name).flatten(1), second.read(theirs_name).flatten(1)
        found = fixed_points(ours, theirs)
        fixed, units = fixed + found.fixed, units + found.units
        share = found.fixed / found.rows
        places.append(Observation(number, number, share, 1 / found.units, found.log_p, name))
        if len(ours) <= MOST:
            order = constrained(ours, theirs, generator=torch.Generator(), draws=0)
            order = Ranks(order.correlation, _law(len(ours)))
            ranks.append(Observation(number, number, order.correlation, 0.0, order.log_p, name))
    yield from _finding("unit places", places, lambda _: f"{fixed:,} of {units:,} in place")
    yield from _finding("unit ranks", ranks, lambda mean: f"mean rank correlation {mean:.2f}")


@lru_cache(maxsize=16)
def _law(units: int) -> tuple[float, ...]:
    return rank_law(units, generator=torch.Generator().manual_seed(units), draws=DRAWS)


class _Axis(NamedTuple):
    """Hidden units on one axis of a pair of tensors: their partners ``[n]`` among so many ``units`` of B."""

    pair: Pair
    partners: Tensor
    units: int


def _in_any_order(first: Checkpoint, second: Checkpoint) -> Iterator[Finding]:
    axes: list[_Axis] = []
    for pair, ours, theirs in _two_sided(first, second):
        chance = torch.Generator().manual_seed(pair.number)
        one, two = first.read(pair.ours).reshape(ours), second.read(pair.theirs).reshape(theirs)
        sides = match_sides(one, two, generator=chance)
        axes += [_Axis(pair, sides.rows, theirs[0]), _Axis(pair, sides.columns, theirs[1])]
    seen: list[Observation] = []
    agreed = total = 0
    for axis in axes:
        counts = [_agreements(axis, other) for other in axes if _comparable(axis, other)]
        if counts:
            units = min(len(axis.partners), axis.units)
            expected = 1 + ALIKE * units
            log_p = min(0.0, log_poisson_tail(max(counts), expected) + math.log(len(counts)))
            place = axis.pair.number
            seen.append(Observation(place, place, max(counts) / units, expected / units, log_p, axis.pair.ours))
            agreed, total = agreed + max(counts), total + units
    yield from _finding("two matchings", seen, lambda _: f"{agreed:,} of {total:,} matched alike by two tensors")


def _comparable(axis: _Axis, other: _Axis) -> bool:
    """Whether two tensors may share these units, by their numbers in both nets."""
    units = len(axis.partners), axis.units
    return axis.pair != other.pair and min(units) >= LEAST and units == (len(other.partners), other.units)


def _agreements(axis: _Axis, other: _Axis) -> int:
    return int(((axis.partners == other.partners) & (axis.partners >= 0)).sum())


def _two_sided(first: Checkpoint, second: Checkpoint) -> list[tuple[Pair, Shape, Shape]]:
    """Pairs with hidden units on both axes, and the shapes [rows, columns, places] to see them in; the smallest."""
    found: list[tuple[Pair, Shape, Shape]] = []
    for pair in paired_tensors(first, second):
        ours, theirs = _sides(first, pair.ours), _sides(second, pair.theirs)
        if ours and theirs and ours[2] == theirs[2] and max(*ours[:2], *theirs[:2]) <= WIDEST:
            found.append((pair, ours, theirs))
    return sorted(found, key=lambda each: math.prod(each[1]))[:TENSORS]


def _sides(net: Checkpoint, name: str) -> Shape | None:
    """Rows, columns and places of a kernel, or of a map that was flattened; None unless both axes are hidden units."""
    shape, others = net.entries[name].shape, _others(net, name)
    if not any(_reads(other, shape) for other in others):
        return None
    rows, inputs, *kernel = shape
    if any(other[0] == inputs for other in others):
        return rows, inputs, math.prod(kernel)
    channels = [other[0] for other in others if len(shape) == 2 and _reads(shape, other)]
    return (rows, max(channels), inputs // max(channels)) if channels else None


def _finding(test: str, seen: list[Observation], told: Callable[[float], str]) -> Iterator[Finding]:
    if seen:
        mean = sum(each.share for each in seen) / len(seen)
        yield Finding(test, bonferroni([each.log_p for each in seen]), told(mean), tuple(seen))
