"""Which axes of which tensors can be permuted together without changing what a net computes, and doing so.

An axis is a product of blocks, row-major: a flattened feature map [c, h w] has its channels permuted and its places
kept, a fused projection [3, heads, dim] its heads. A block names the permutation that acts on it, or None. The same
name on several tensors means the same permutation on each. `whorl.symmetry.alignment.tracing` derives all this from the
graph.

Source: the permutation specification of Ainsworth et al., *Git Re-Basin*, ICLR 2023, arXiv 2209.04836, section 3; there
it is written by hand for each architecture and has one name an axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from whorl.errors import UsageError

__all__ = [
    "ABSENT",
    "Block",
    "Layout",
    "PermutationSpec",
    "Permutations",
    "Place",
    "State",
    "identity",
    "inverse",
    "permute",
    "random_permutations",
    "take",
]

ABSENT = -1  # in the index of a rectangular matching: no unit of the other net stands here
State = Mapping[str, Tensor]
Permutations = Mapping[str, Tensor]
"""For each name ``index [n]`` int64: unit i of the permuted net is unit ``index[i]`` of the given one."""


class Block(NamedTuple):
    """A part of an axis: how long it is, and the permutation that acts on it."""

    size: int
    permutation: str | None


Layout = tuple[tuple[Block, ...], ...]
"""The blocks of each axis of a tensor; an axis of length 1 has none."""


class Place(NamedTuple):
    """Where a permutation acts: on which dimension of a tensor with one dimension for each block."""

    tensor: str
    dimension: int


@dataclass(frozen=True)
class PermutationSpec:
    """The permutation symmetries of a net.

    ``layouts`` has every tensor of the state; ``sizes`` the length of each permutation; ``learned`` names the
    parameters among the tensors, which matching compares, as opposed to running statistics, which only come along.
    """

    layouts: Mapping[str, Layout]
    sizes: Mapping[str, int]
    learned: frozenset[str]

    @cached_property
    def places(self) -> Mapping[str, tuple[Place, ...]]:
        """Where each permutation acts."""
        found: dict[str, list[Place]] = {name: [] for name in self.sizes}
        for tensor, layout in self.layouts.items():
            for dimension, block in enumerate(_blocks(layout)):
                if block.permutation is not None:
                    found[block.permutation].append(Place(tensor, dimension))
        return {name: tuple(places) for name, places in found.items()}

    def axes(self, tensor: str) -> tuple[str | None, ...]:
        """For each axis the permutations that act on it, joined by ``*``, or None."""
        names = (
            [block.permutation for block in axis if block.permutation is not None] for axis in self.layouts[tensor]
        )
        return tuple("*".join(each) or None for each in names)

    def expand(self, tensor: str, value: Tensor) -> Tensor:
        """A tensor with one dimension for each block. Raises `UsageError` if its shape is another."""
        layout = self.layouts[tensor]
        wanted = tuple(prod(block.size for block in axis) for axis in layout)
        if tuple(value.shape) != wanted:
            raise UsageError(f"{tensor} is {list(value.shape)} here and {list(wanted)} in the net that was traced")
        return value.reshape([block.size for block in _blocks(layout)])

    def names(self, tensor: str) -> tuple[str | None, ...]:
        """The permutation of each dimension of an expanded tensor."""
        return tuple(block.permutation for block in _blocks(self.layouts[tensor]))


def _blocks(layout: Layout) -> Iterator[Block]:
    return (block for axis in layout for block in axis)


def identity(spec: PermutationSpec, other: PermutationSpec | None = None) -> dict[str, Tensor]:
    """Every unit beside the one of the same number; beside those that an ``other``, narrower net lacks is `ABSENT`."""
    found: dict[str, Tensor] = {}
    for name, size in spec.sizes.items():
        index = torch.arange(size)
        found[name] = index.where(index < (other or spec).sizes[name], ABSENT)
    return found


def random_permutations(spec: PermutationSpec, generator: torch.Generator) -> dict[str, Tensor]:
    """Permutations drawn uniformly."""
    return {name: torch.randperm(size, generator=generator) for name, size in spec.sizes.items()}


def inverse(permutations: Permutations) -> dict[str, Tensor]:
    """The permutations that undo the given ones."""
    return {name: index.argsort() for name, index in permutations.items()}


def permute(state: State, spec: PermutationSpec, permutations: Permutations) -> dict[str, Tensor]:
    """The state with every tensor's units in another order, and the same function.

    Names that ``permutations`` lacks stay in order. An index may be longer or shorter than its permutation and hold
    `ABSENT`; the unit there is zero.

    Raises:
        UsageError: a tensor that the net did not have, of another shape, or a permutation that it does not know.
    """
    if unknown := permutations.keys() - spec.sizes.keys():
        raise UsageError(f"no permutation {min(unknown)!r} in this net; it has {', '.join(spec.sizes) or 'none'}")
    if unknown := state.keys() - spec.layouts.keys():
        raise UsageError(f"the net that was traced has no tensor {min(unknown)!r}")
    return {tensor: _permute_one(tensor, value, spec, permutations) for tensor, value in state.items()}


def _permute_one(tensor: str, value: Tensor, spec: PermutationSpec, permutations: Permutations) -> Tensor:
    if not any(name in permutations for name in spec.names(tensor)):
        return value
    expanded = spec.expand(tensor, value)
    for dimension, name in enumerate(spec.names(tensor)):
        if name is not None and name in permutations:
            expanded = take(expanded, dimension, permutations[name])
    sizes = iter(expanded.shape)
    return expanded.reshape([prod(next(sizes) for _ in axis) for axis in spec.layouts[tensor]])


def take(value: Tensor, dimension: int, index: Tensor) -> Tensor:
    """The slices of a dimension that an index names, zero where it says `ABSENT`."""
    index = index.to(value.device)
    taken = value.index_select(dimension, index.clamp_min(0))
    if bool((index < 0).any()):
        keep = (index >= 0).view([-1 if each == dimension else 1 for each in range(value.ndim)])
        taken = taken * keep
    return taken
