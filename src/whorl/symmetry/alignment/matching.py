"""Permuting the units of one net so that its weights lie as close as they can to another's.

Source: Ainsworth, Hayase, Srinivasa, *Git Re-Basin*, ICLR 2023, arXiv 2209.04836, algorithm 1.

Positive factors of ReLU units are another symmetry, which matching does not undo: bring both nets into canonical form
first, or a rescaled copy is not recognised.

Measured on three pairs of independent residual nets of each width (``benchmarks/results/rebasin.json``): weight
matching takes 50, 49, 51 and 58 % of the barrier away at widths 16, 32, 64 and 128, and does not reach the paper's near
zero after ten epochs of training. Activation matching takes 71, 86, 92 and 97 %, though its weights lie farther apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whorl.errors import UsageError
from whorl.symmetry.alignment.assignment import assign
from whorl.symmetry.alignment.permutations import Layout, Permutations, PermutationSpec, Place, State, identity, take

__all__ = ["UnitMatching", "match_weights"]

TIE = 1e-7  # what float32 leaves of a sum of products: a gain below it, in units of both norms, is none


@dataclass(frozen=True)
class UnitMatching:
    """What was found; ``permutations`` are for `whorl.symmetry.alignment.permutations.permute` and the other net.

    ``objective`` is what they maximise, ``history`` its value before and after each sweep, ``objectives`` that of every
    restart.
    """

    permutations: Permutations
    objective: float
    history: tuple[float, ...]
    objectives: tuple[float, ...]


def match_weights(
    one: State,
    other: State,
    spec: PermutationSpec,
    *,
    generator: torch.Generator,
    other_spec: PermutationSpec | None = None,
    start: Permutations | None = None,
    restarts: int = 5,
    sweeps: int = 100,
) -> UnitMatching:
    """Maximise the inner product of the parameters of ``one`` and of the permuted ``other``.

    Coordinate ascent: permutations are visited in random order, and each is set to the best one given the rest, by
    linear assignment. The objective never falls; where it ends depends on the order and the start, so of several
    restarts the best is kept. The first begins at ``start``, the others where permutations were set one after the
    other, in random order, each by the tensors whose other permutations were set: what is fixed, the inputs and
    outputs, holds the first. That is not in the paper; it ends higher than starting all at the identity does. A
    permutation that acts on both sides of one tensor is set to the best of the linearised objective, where that does
    not fall.

    Parameters:
        other_spec: that of the other net, where it is of the same architecture and other widths. Units that have no
            partner are `ABSENT`.
        start: the identity by default.

    Raises:
        UsageError: states and specs that do not fit, or less than one restart or sweep.
    """
    if min(restarts, sweeps) < 1:
        raise UsageError(f"weight matching takes at least 1 restart and 1 sweep, not {restarts} and {sweeps}")
    problem = _Problem(one, other, spec, other_spec or spec)
    starts = (
        problem.grow(generator) if restart else dict(start or identity(spec, problem.other_spec))
        for restart in range(restarts)
    )
    runs = [problem.ascend(each, sweeps, generator) for each in starts]
    best, history = max(runs, key=lambda run: run[1][-1])
    return UnitMatching(best, history[-1], tuple(history), tuple(run[1][-1] for run in runs))


class _Problem:
    """Two nets with their units apart, and how alike these are under given permutations."""

    def __init__(self, one: State, other: State, spec: PermutationSpec, other_spec: PermutationSpec) -> None:
        self.spec, self.other_spec = spec, other_spec
        self.one = dict(_expanded(one, spec, spec.learned))
        self.other = dict(_expanded(other, other_spec, spec.learned))
        for tensor in self.one:
            if not _alike(spec.layouts[tensor], other_spec.layouts.get(tensor)):
                raise UsageError(f"{tensor} is not permuted alike in both nets: they are not of one architecture")
        self.names = {tensor: spec.names(tensor) for tensor in self.one}
        learned = {name: [at for at in places if at.tensor in self.one] for name, places in spec.places.items()}
        self.places = {name: places for name, places in learned.items() if places}

    def ascend(
        self, permutations: dict[str, Tensor], sweeps: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], list[float]]:
        """The end of the ascent, and the objective before and after each sweep."""
        history = [self.objective(permutations, self.one)]
        names = sorted(self.places)
        stale = set(names)  # visiting the others again would change nothing
        while stale and len(history) <= sweeps:
            for position in torch.randperm(len(names), generator=generator).tolist():
                name = names[position]
                if name in stale:
                    stale.remove(name)
                    if self._improve(name, permutations):
                        stale |= set[str]().union(*map(self._beside, self.places[name]))
            history.append(self.objective(permutations, self.one))
        return permutations, history

    def grow(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Permutations set one after the other, in random order, each by the tensors where all others are set."""
        permutations = identity(self.spec, self.other_spec)
        missing = set(self.places)
        while missing:
            held = {
                name: places
                for name in sorted(missing)
                if (places := [at for at in self.places[name] if not missing & self._beside(at)])
            }
            held = held or {name: self.places[name] for name in sorted(missing)}
            # Vectors alone hold a permutation badly: wait for a matrix where there is one.
            firm = [name for name, places in held.items() if any(self.one[at.tensor].ndim > 1 for at in places)]
            names = firm or list(held)
            name = names[int(torch.randint(len(names), (), generator=generator))]
            missing.remove(name)
            permutations[name] = assign(self._similarity(held[name], permutations))
        return permutations

    def objective(self, permutations: Permutations, tensors: Iterable[str]) -> float:
        """The inner product over some tensors."""
        return sum(
            float((self.one[tensor] * self._permuted(tensor, permutations)).sum(dtype=torch.float64))
            for tensor in tensors
        )

    def _improve(self, name: str, permutations: dict[str, Tensor]) -> bool:
        places = self.places[name]
        index = assign(self._similarity(places, permutations))
        if torch.equal(index, permutations[name]):
            return False
        tensors = {place.tensor for place in places}
        before = self.objective(permutations, tensors)
        after = self.objective({**permutations, name: index}, tensors)
        scale = sum(float(self.one[tensor].norm() * self.other[tensor].norm()) for tensor in tensors)
        if after - before <= TIE * scale:
            return False
        permutations[name] = index
        return True

    def _similarity(self, places: Sequence[Place], permutations: Permutations) -> Tensor:
        """Summed inner products ``[m, n]`` of the slices of tensors and their counterparts."""
        products = (
            _rows(self.one[at.tensor], at.dimension)
            @ _rows(self._permuted(at.tensor, permutations, at.dimension), at.dimension).mT
            for at in places
        )
        return torch.stack(list(products)).sum(0)

    def _permuted(self, tensor: str, permutations: Permutations, but: int = -1) -> Tensor:
        value = self.other[tensor]
        for dimension, name in enumerate(self.names[tensor]):
            if name is not None and dimension != but:
                value = take(value, dimension, permutations[name])
        return value

    def _beside(self, place: Place) -> set[str]:
        """The permutations that act on the other dimensions of a tensor."""
        names = self.names[place.tensor]
        return {name for dimension, name in enumerate(names) if name is not None and dimension != place.dimension}


def _expanded(state: State, spec: PermutationSpec, tensors: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    for tensor in sorted(tensors):
        if tensor not in state or tensor not in spec.layouts:
            raise UsageError(f"{tensor} is missing; both states must be of the net that was traced")
        yield tensor, spec.expand(tensor, state[tensor]).detach().float()


def _rows(value: Tensor, dimension: int) -> Tensor:
    return value.movedim(dimension, 0).reshape(value.shape[dimension], -1)


def _alike(layout: Layout, other: Layout | None) -> bool:
    """Whether the same permutations act on a tensor of both nets, and what is fixed has the same length."""
    return (
        other is not None
        and len(layout) == len(other)
        and all(
            len(one) == len(two)
            and all(
                a.permutation == b.permutation and (a.permutation or a.size == b.size)
                for a, b in zip(one, two, strict=True)
            )
            for one, two in zip(layout, other, strict=True)
        )
    )
