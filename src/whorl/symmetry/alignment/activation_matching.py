"""Permuting the units of one net so that they answer pictures as another's do.

Source: Ainsworth, Hayase, Srinivasa, *Git Re-Basin*, ICLR 2023, section 3.1; by correlation: Li et al., *Convergent
Learning*, ICLR 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from whorl.errors import UsageError
from whorl.nets.modes import evaluating
from whorl.symmetry.alignment.assignment import assign
from whorl.symmetry.alignment.matching import UnitMatching
from whorl.symmetry.alignment.paths import BATCH
from whorl.symmetry.alignment.permutations import PermutationSpec, identity

__all__ = ["match_activations"]

READERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
SILENT = 1e-12  # spread of a unit that never changes


@torch.no_grad()
def match_activations(
    one: nn.Module,
    other: nn.Module,
    spec: PermutationSpec,
    inputs: Tensor,
    *,
    centred: bool = True,
    other_spec: PermutationSpec | None = None,
    batch: int = BATCH,
) -> UnitMatching:
    """Maximise the summed likeness of units that stand in the same place, each permutation by itself.

    A unit is compared by what reads it: the inputs of linear layers and ungrouped convolutions, over pictures, places
    and readers. Likeness is the correlation, or with ``centred=False`` the plain product, which loud units dominate.
    Permutations that no such layer reads keep their order. Both nets are left in evaluation mode.

    Parameters:
        other_spec: as in `whorl.symmetry.alignment.matching.match_weights`.

    Shape:
        inputs: ``[n, c, h, w]``, unlabelled.

    Raises:
        UsageError: no pictures.
    """
    if not len(inputs):
        raise UsageError("activation matching takes at least one picture")
    other_spec = other_spec or spec
    read = list(_readings(one, spec))
    moments: dict[_Reading, _Moments] = {}
    for chunk in inputs.split(batch):
        reading_both = _reading(one, spec, read), _reading(other, other_spec, read)
        with evaluating(one, other), reading_both[0] as seen, reading_both[1] as seen_other:
            one(chunk)
            other(chunk)
        for reading in read:
            now = _Moments.of(seen[reading], seen_other[reading])
            moments[reading] = moments[reading] + now if reading in moments else now
    permutations = identity(spec, other_spec)
    objective = 0.0
    for name in sorted({reading.permutation for reading in read}):
        likeness = torch.stack([moments[each].likeness(centred) for each in read if each.permutation == name]).sum(0)
        permutations[name] = index = assign(likeness)
        paired = index >= 0
        objective += float(likeness[paired, index[paired]].sum())
    return UnitMatching(permutations, objective, (objective,), (objective,))


class _Reading(NamedTuple):
    """A module that reads the units of a permutation: which block of the axis it reads."""

    permutation: str
    module: str
    block: int


@dataclass(frozen=True)
class _Moments:
    """Sums over samples of what two sets of units gave: ``[m]`` and ``[n]``, and of their products ``[m, n]``."""

    count: int
    sums: tuple[Tensor, Tensor]
    squares: tuple[Tensor, Tensor]
    products: Tensor

    @classmethod
    def of(cls, one: Tensor, other: Tensor) -> _Moments:
        """Of units ``[m, samples]`` and ``[n, samples]``."""
        both = one.double(), other.double()
        sums, squares = ((a.sum(1), b.sum(1)) for a, b in (both, (both[0].square(), both[1].square())))
        return cls(one.shape[1], sums, squares, both[0] @ both[1].mT)

    def __add__(self, more: _Moments) -> _Moments:
        sums = self.sums[0] + more.sums[0], self.sums[1] + more.sums[1]
        squares = self.squares[0] + more.squares[0], self.squares[1] + more.squares[1]
        return _Moments(self.count + more.count, sums, squares, self.products + more.products)

    def likeness(self, centred: bool) -> Tensor:
        """Correlations or mean products ``[m, n]``; a unit that never changes correlates with none."""
        products = self.products / self.count
        if not centred:
            return products
        means = [each / self.count for each in self.sums]
        spreads = [
            (square / self.count - mean.square()).clamp_min(0).sqrt()
            for square, mean in zip(self.squares, means, strict=True)
        ]
        scale = spreads[0][:, None] * spreads[1]
        return torch.where(scale > SILENT, (products - means[0][:, None] * means[1]) / scale.clamp_min(SILENT), 0.0)


def _readings(net: nn.Module, spec: PermutationSpec) -> Iterator[_Reading]:
    for module, layer in net.named_modules():
        if isinstance(layer, READERS) and getattr(layer, "groups", 1) == 1:
            for place, block in enumerate(spec.layouts[f"{module}.weight"][1]):
                if block.permutation is not None:
                    yield _Reading(block.permutation, module, place)


@contextmanager
def _reading(net: nn.Module, spec: PermutationSpec, read: list[_Reading]) -> Iterator[dict[_Reading, Tensor]]:
    """Units ``[m, samples]`` as they are read while the net runs."""
    seen: dict[_Reading, Tensor] = {}

    def watch(reading: _Reading, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes = [block.size for block in spec.layouts[f"{reading.module}.weight"][1]]
        units = inputs[0].movedim(-1 if isinstance(layer, nn.Linear) else 1, -1).unflatten(-1, sizes)
        seen[reading] = units.movedim(reading.block - len(sizes), 0).flatten(1)

    handles = [net.get_submodule(each.module).register_forward_pre_hook(partial(watch, each)) for each in read]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
