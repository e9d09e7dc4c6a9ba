"""Tests of independence for tensors without roles, convolutional nets included, by names and shapes alone.

Tensors are paired by name, and those whose names only one net has by shape, in the order of their names. What counts
as evidence, and which axes hold units, is told by `whorl.weights.exchangeable`.

Matrices of recurrent layers are seen by their units (`whorl.weights.gates`).

- Places and ranks of rows are exact where units are shown to be permutable, and evaded by permuting them. Two tensors
  may share one permutation (a residual stream), so their p-values are not independent: they are combined by
  Bonferroni's bound. The same of other rows that something reads (*row places*) is not called exact.
- Two matchings: each tensor that has hidden units on both axes is matched with its partner by itself
  (`whorl.weights.two_sided`), whatever the order and the positive factors of units in either net. Two tensors that
  share units then agree on them in copies, and by chance in strangers. Not exact: nets of one kind of data may learn
  units that are alike. Of 16 to 64 units of classifiers 1.05 to 1.24 agree, where 1 is chance
  (`benchmarks/lineage_vision_size.py`); of 16 units of nets with few channels and a small task 5 on average, and 11 at
  most (`benchmarks/lineage_other_nets.py`): a task has so many features that all find them. So the law that is used is
  binomial: a unit may agree with a chance of one half, and of many units 1, `FEW` and `ALIKE` of all on average.
  Two tensors that are one in both nets, as a module under two names is, are no two witnesses.
  Tensors that touch pixels or classes are left out for this: a last layer and its head agree on 4.3 of 64 in strangers.

A tensor that is equal in both nets, while all else is apart, is a constant that both were given: of two nets whose
tensors mostly differ, equal ones count only where training left a vector (a bias, a gain) that is equal too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.detection.exact import bonferroni, log_binomial_tail
from whorl.weights.exchangeable import LEAST, Axes, lean_alike, natural, reads
from whorl.weights.findings import Finding, Observation
from whorl.weights.gates import Cells
from whorl.weights.independence import ALIKE, Ranks, constrained, fixed_points, rank_law
from whorl.weights.pairing import spread
from whorl.weights.two_sided import match_sides

__all__ = ["GIVEN", "ByName", "Pair", "by_name", "hidden_rows", "paired_tensors"]

MOST: Final = 4096  # units that are matched one to one; the cost grows with the cube
WIDEST: Final = 1024  # units on either axis of a tensor whose two axes are matched, some forty times over
TENSORS: Final = 32  # of them, the smallest first
FEW: Final = 8  # units of any two nets that learned the features of one small task
SAMPLE: Final = 128  # rows, and columns, by which two tensors of a net are told to be one
TWICE: Final = 0.5  # mean cosine of the rows of two tensors of a net that are one
DRAWS: Final = 9999
GIVEN: Final = "equal in nets that are otherwise apart"
UNREAD: Final = "rows that nothing reads in one path"
UNPAIRED: Final = "no partner in the other net"

Shape = tuple[int, ...]


class Pair(NamedTuple):
    """A tensor of each net that are held against each other, and the place among all pairs."""

    number: int
    ours: str
    theirs: str


@dataclass(frozen=True)
class ByName:
    """The tests of tensors without roles; of each net what was ``tested``, and why each other tensor was not."""

    findings: tuple[Finding, ...]
    tested: tuple[frozenset[str], frozenset[str]]
    left_out: tuple[dict[str, str], dict[str, str]]


def paired_tensors(first: Axes, second: Axes) -> list[Pair]:
    """Weights with two axes or more: by name, the rest by shape where both have equally many of one."""
    shapes = [first.weights, second.weights]
    same = [name for name in shapes[0] if name in shapes[1]]
    left = [sorted(each.keys() - same, key=natural) for each in shapes]
    names = [(name, name) for name in same]
    alike: tuple[dict[Shape, list[str]], ...] = ({}, {})
    for held, rest, each in zip(alike, left, shapes, strict=True):
        for name in rest:
            held.setdefault(each[name], []).append(name)
    for shape, ours in alike[0].items():
        if len(ours) == len(theirs := alike[1].get(shape, [])):
            names += zip(ours, theirs, strict=True)
    return [Pair(number, *both) for number, both in enumerate(sorted(names, key=lambda both: natural(both[0])))]


def hidden_rows(first: Axes, second: Axes) -> list[Pair]:
    """Pairs of one shape whose rows something reads in both nets."""
    return [
        pair
        for pair in paired_tensors(first, second)
        if (shape := first.weights[pair.ours]) == second.weights[pair.theirs]
        and shape[0] >= LEAST
        and first.read(pair.ours)
        and second.read(pair.theirs)
    ]


def by_name(
    first: Checkpoint, second: Checkpoint, *, apart: tuple[Collection[str], Collection[str]] = ((), ())
) -> ByName:
    """Places and ranks of the rows of every tensor that admits the tests, and matchings of those with two such axes.

    Parameters:
        apart: names of tensors of each net that are tested elsewhere.
    """
    nets = (Cells(first), Cells(second))
    axes = [Axes(net, [name for name in net.entries if name not in but]) for net, but in zip(nets, apart, strict=True)]
    one, two = axes
    for net, cells in zip(axes, nets, strict=True):
        net.slanted |= cells.kept
    given = _given(one, two)
    one.leave_out([pair.ours for pair in given], GIVEN)
    two.leave_out([pair.theirs for pair in given], GIVEN)
    found = [*_in_order(one, two), *_in_any_order(one, two)]
    partners = {pair.ours: pair.theirs for pair in paired_tensors(one, two)}
    ours = frozenset(seen.name for each in found for seen in each.observations)
    theirs = frozenset(partners[name] for name in ours)
    left_out = _left_out(one, partners.keys(), ours), _left_out(two, partners.values(), theirs)
    return ByName(tuple(found), (ours, theirs), left_out)


def _given(one: Axes, two: Axes) -> list[Pair]:
    """Equal tensors among more that differ, where no trained vector of the one is a vector of the other."""
    pairs = [pair for pair in paired_tensors(one, two) if one.weights[pair.ours] == two.weights[pair.theirs]]
    equal = [pair for pair in pairs if torch.equal(one.net.stored(pair.ours), two.net.stored(pair.theirs))]
    if 2 * len(equal) >= len(pairs) or not equal:
        return []
    # Whatever they are called: an export names them anew.
    held = {_content(two, name) for name in two.vectors()}
    return [] if any(_content(one, name) in held and one.varied(name) for name in sorted(one.vectors())) else equal


def _content(net: Axes, name: str) -> tuple[float, ...]:
    """The numbers of a vector, the first of many."""
    return tuple(net.net.stored(name).flatten()[:MOST].double().tolist())


def _left_out(net: Axes, paired: Collection[str], tested: Collection[str]) -> dict[str, str]:
    """Why each tensor that was not tested was not."""
    reasons = dict(net.left_out)
    for name in net.weights:
        if name not in tested:
            reasons[name] = UNPAIRED if name not in paired else net.order_of(name) or UNREAD
    return reasons


def _in_order(first: Axes, second: Axes) -> Iterator[Finding]:
    places: dict[bool, list[Observation]] = {True: [], False: []}
    ranks: list[Observation] = []
    dropped = {True: 0, False: 0}
    for number, name, partner in hidden_rows(first, second):
        shown = first.shown(name) and second.shown(partner)
        if first.ordered(name, 0) or second.ordered(partner, 0):
            dropped[shown] += 1
            continue
        ours, theirs = first.net.read(name), second.net.read(partner)
        kept = name in first.slanted or partner in second.slanted
        if kept or lean_alike(*(each.reshape(*each.shape[:2], -1) for each in (ours, theirs))):
            dropped[shown] += 1
            first.slanted.add(name)
            second.slanted.add(partner)
            continue
        ours, theirs = ours.flatten(1), theirs.flatten(1)
        found = fixed_points(ours, theirs)
        share = found.fixed / found.rows
        places[shown].append(Observation(number, number, share, 1 / found.units, found.log_p, name))
        if shown and len(ours) <= MOST:
            order = constrained(ours, theirs, generator=torch.Generator().manual_seed(number), draws=0)
            order = Ranks(order.correlation, _law(len(ours)))
            ranks.append(Observation(number, number, order.correlation, 0.0, order.log_p, name))
    for test, shown in (("unit places", True), ("row places", False)):
        yield from _finding(test, places[shown], lambda mean: f"{mean:.1%} in place on average", dropped[shown])
    yield from _finding("unit ranks", ranks, lambda mean: f"mean rank correlation {mean:.2f}", dropped[True])


@lru_cache(maxsize=16)
def _law(units: int) -> tuple[float, ...]:
    return rank_law(units, generator=torch.Generator().manual_seed(units), draws=DRAWS)


class _Axis(NamedTuple):
    """Hidden units on one axis of a pair of tensors: their partners ``[n]`` among so many ``units`` of B.

    ``ours`` and ``theirs`` are some rows and columns of the tensors, whose rows are the units, of length 1.
    """

    pair: Pair
    partners: Tensor
    units: int
    ours: Tensor
    theirs: Tensor

    @classmethod
    def of(cls, pair: Pair, partners: Tensor, ours: Tensor, theirs: Tensor) -> _Axis:
        """From tensors whose first axis has the units."""
        return cls(pair, partners, len(theirs), _glimpse(ours), _glimpse(theirs))


def _in_any_order(first: Axes, second: Axes) -> Iterator[Finding]:
    axes: list[_Axis] = []
    for pair, ours, theirs in _two_sided(first, second):
        if any(first.ordered(pair.ours, axis, ours) or second.ordered(pair.theirs, axis, theirs) for axis in (0, 1)):
            continue
        chance = torch.Generator().manual_seed(pair.number)
        one, two = first.net.read(pair.ours).reshape(ours), second.net.read(pair.theirs).reshape(theirs)
        sides = match_sides(one, two, generator=chance)
        axes.append(_Axis.of(pair, sides.rows, one, two))
        axes.append(_Axis.of(pair, sides.columns, one.transpose(0, 1), two.transpose(0, 1)))
    seen: list[Observation] = []
    agreed = total = 0
    for axis in axes:
        counts = [_agreements(axis, other) for other in axes if _comparable(axis, other)]
        if counts:
            units = min(len(axis.partners), axis.units)
            chance = min(0.5, (1 + FEW) / units + ALIKE)
            log_p = min(0.0, log_binomial_tail(max(counts), units, chance) + math.log(len(counts)))
            place = axis.pair.number
            seen.append(Observation(place, place, max(counts) / units, chance, log_p, axis.pair.ours))
            agreed, total = agreed + max(counts), total + units
    yield from _finding("two matchings", seen, lambda _: f"{agreed:,} of {total:,} matched alike by two tensors")


def _comparable(axis: _Axis, other: _Axis) -> bool:
    """Whether two tensors may share these units, by their numbers in both nets, and are not one tensor in both."""
    units = len(axis.partners), axis.units
    if axis.pair == other.pair or min(units) < LEAST or units != (len(other.partners), other.units):
        return False
    return not (_once_more(axis.ours, other.ours) and _once_more(axis.theirs, other.theirs))


def _glimpse(units: Tensor) -> Tensor:
    units = units.flatten(1)
    return normalize(units[spread(len(units), SAMPLE)][:, spread(units.shape[1], SAMPLE)], dim=1)


def _once_more(one: Tensor, two: Tensor) -> bool:
    """Whether a net holds one tensor twice, whose units find the same partners both times."""
    return one.shape == two.shape and float((one * two).sum()) > TWICE * len(one)


def _agreements(axis: _Axis, other: _Axis) -> int:
    return int(((axis.partners == other.partners) & (axis.partners >= 0)).sum())


def _two_sided(first: Axes, second: Axes) -> list[tuple[Pair, Shape, Shape]]:
    """Pairs with hidden units on both axes, and the shapes [rows, columns, places] to see them in; the smallest."""
    found: list[tuple[Pair, Shape, Shape]] = []
    for pair in paired_tensors(first, second):
        ours, theirs = _sides(first, pair.ours), _sides(second, pair.theirs)
        if ours and theirs and ours[2] == theirs[2] and max(*ours[:2], *theirs[:2]) <= WIDEST:
            found.append((pair, ours, theirs))
    return sorted(found, key=lambda each: math.prod(each[1]))[:TENSORS]


def _sides(net: Axes, name: str) -> Shape | None:
    """Rows, columns and places of a kernel, or of a map that was flattened; None unless both axes are hidden units."""
    if not any(net.readers("", name)):
        return None
    rows, inputs, *kernel = shape = net.weights[name]
    others = [its for its in net.others(name) if its[0] > 1]
    if any(other[0] == inputs for other in others):
        return rows, inputs, math.prod(kernel)
    channels = [other[0] for other in others if len(shape) == 2 and reads(shape, other)]
    return (rows, max(channels), inputs // max(channels)) if channels else None


def _finding(test: str, seen: list[Observation], told: Callable[[float], str], dropped: int = 0) -> Iterator[Finding]:
    """Tensors that were ``dropped`` for their order still count among those that are corrected for."""
    if seen:
        mean = sum(each.share for each in seen) / len(seen)
        log_p = bonferroni([*(each.log_p for each in seen), *([0.0] * dropped)])
        yield Finding(test, log_p, told(mean), tuple(seen))
