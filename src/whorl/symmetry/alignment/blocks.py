"""Axes whose blocks are found to be the same, or fixed, as a graph is read.

A `Unit` is an unknown permutation of some length. Reading the graph joins units that must be permuted alike, splits one
into a product where a reshape cuts it (only product permutations survive that), and fixes one that may not be permuted.
Whatever is not understood is fixed: the identity is always a symmetry, so a spec may be too small and never wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

__all__ = ["Axis", "Unit", "fix", "fixed", "fresh", "join", "leaves", "length", "reshape", "split"]


class Unit:
    """An unknown permutation of ``size`` things, or the units that it was found to be made of."""

    def __init__(self, size: int, fixed: bool = False) -> None:
        self.size = size
        self.fixed = fixed
        self.made_of: tuple[Unit, ...] = ()


Axis = tuple[Unit, ...]
"""The blocks of an axis, row-major; an axis of length 1 has none."""


def fresh(size: int) -> Axis:
    """An axis about which nothing is known."""
    return (Unit(size),) if size != 1 else ()


def fixed(size: int) -> Axis:
    """An axis that may not be permuted."""
    return (Unit(size, fixed=True),) if size != 1 else ()


def leaves(axis: Axis) -> Axis:
    """The blocks of an axis as they are known by now."""
    return tuple(leaf for unit in axis for leaf in (leaves(unit.made_of) if unit.made_of else (unit,)))


def length(axis: Axis) -> int:
    """How long an axis is."""
    return prod(unit.size for unit in axis)


def fix(*axes: Axis) -> None:
    """Let nothing permute these axes."""
    for axis in axes:
        for unit in leaves(axis):
            unit.fixed = True


def join(one: Axis, other: Axis) -> None:
    """Let two axes of the same length be permuted alike; both are fixed where their blocks do not fit."""
    one, other = leaves(one), leaves(other)
    while one and other:
        first, second = one[0], other[0]
        if first is not second:
            if first.size == second.size:
                second.fixed = first.fixed = first.fixed or second.fixed
                second.made_of = (first,)
            elif not (_cut(first, second.size) or _cut(second, first.size)):
                fix(one, other)
                return
            one, other = leaves(one), leaves(other)
        if one[0] is other[0]:
            one, other = one[1:], other[1:]


def split(axis: Axis, size: int) -> tuple[Axis, Axis]:
    """An axis as a product, the first ``size`` long; it is fixed where its blocks do not fit."""
    first, second = reshape([axis], [size, length(axis) // size])
    return first, second


def reshape(axes: Sequence[Axis], shape: Sequence[int]) -> list[Axis]:
    """The axes of a tensor seen with another shape of as many elements; all are fixed where blocks do not fit."""
    rest = leaves(tuple(unit for axis in axes for unit in axis))
    made: list[Axis] = []
    for size in shape:
        taken: list[Unit] = []
        while rest and (missing := size // length(tuple(taken))) > 1:
            if rest[0].size > missing and not _cut(rest[0], missing):
                break
            rest = leaves(rest)  # a unit that was cut may stand here twice
            taken.append(rest[0])
            rest = rest[1:]
        if length(tuple(taken)) != size:
            fix(*axes)
            return [fixed(each) for each in shape]
        made.append(tuple(taken))
    return made


def _cut(unit: Unit, size: int) -> bool:
    """Make a unit a product whose first block is ``size`` long, if it can be."""
    if unit.size <= size or unit.size % size:
        return False
    unit.made_of = (Unit(size, unit.fixed), Unit(unit.size // size, unit.fixed))
    return True
