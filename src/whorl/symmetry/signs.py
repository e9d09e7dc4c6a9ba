"""Order and signs of units at once, for channels that may be negated: those of odd activations and linear streams.

A rule for signs (`whorl.symmetry.canonical`) makes exact copies equal. Under noise it turns the units whose two
largest weights have other signs and about one size, and a turned unit has no partner. So signs are chosen pair by
pair: the inner product of two units is that of what may be negated, in absolute value, plus that of what may not.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from whorl.symmetry.alignment.assignment import assign
from whorl.symmetry.alignment.permutations import Permutations, permute
from whorl.symmetry.canonical import Canonical
from whorl.symmetry.channels import Channels, Units, is_carrier, read_units

__all__ = ["align_signs"]

SWEEPS = 20
GAIN = 1e-9  # of the inner product, which has as many digits

State = dict[str, Tensor]


def align_signs(
    one: State, other: Canonical, permutations: Permutations, sizes: Mapping[str, Tensor]
) -> tuple[State, dict[str, Tensor]]:
    """The state of ``other`` with units negated, and its permutations, once no unit is better otherwise.

    Coordinate ascent on the inner product with the weights ``one``, each tensor over its squared ``sizes``, over the
    units that may be negated: it never falls. Nets without such units come back as they are.
    """
    ascent = _Ascent(one, other, dict(permutations), sizes)
    signed = [(units, space) for units in read_units(other.net) for space in units.spaces if space.sign]
    for _ in range(SWEEPS):
        better = [ascent.improve(units, space) for units, space in signed]
        if not any(better):
            break
    return ascent.state, ascent.permutations


class _Ascent:
    def __init__(
        self, one: State, other: Canonical, permutations: dict[str, Tensor], sizes: Mapping[str, Tensor]
    ) -> None:
        self.spec = other.spec
        self.state = {name: value.clone() for name, value in other.state.items()}
        self.permutations = permutations
        self.one = {name: value / sizes[name].square() for name, value in one.items() if name in sizes}
        self.names = {layer: name for name, layer in other.net.named_modules()}

    def improve(self, units: Units, space: Channels) -> bool:
        """Pair and turn anew the units whose channels in ``space`` may be negated; whether that was better."""
        blocks = self.spec.layouts[f"{self.names[units.writers[0]]}.weight"][0]
        name = blocks[0].permutation if len(blocks) == 1 else None
        if name is None:
            return False
        before = self.permutations[name]
        others = {key: index for key, index in self.permutations.items() if key != name}
        moved = permute(self.state, self.spec, others)
        turned = self._places(space)
        rest = [at for each in units.spaces for at in self._places(each) if at not in turned]
        free = self._similarity(turned, moved, len(before), units.count)
        held = self._similarity(list(dict.fromkeys(rest)), moved, len(before), units.count)
        index = assign(free.abs() + held)
        paired = (index >= 0).nonzero()[:, 0]
        signs = torch.where(free[paired, index[paired]] < 0, -1.0, 1.0).to(free)
        was = (before >= 0).nonzero()[:, 0]
        gain = (free.abs() + held)[paired, index[paired]].sum() - (free + held)[was, before[was]].sum()
        if gain <= GAIN * free.abs().amax(1).sum():
            return False
        self.permutations[name] = index
        factors = torch.ones(units.count, dtype=free.dtype).index_put_((index[paired],), signs)
        for tensor, axis in turned:
            _by_unit(self.state[tensor], axis, units.count).mul_(factors[:, None, None])
        return True

    def _places(self, space: Channels) -> list[tuple[str, int]]:
        """Weights of which each channel has a part: the tensor, and the axis that counts channels."""
        made = [(f"{self.names[layer]}.{kind}", 0) for layer in space.writers for kind in ("weight", "bias")]
        return made + [(f"{self.names[layer]}.weight", int(not is_carrier(layer))) for layer in space.readers]

    def _similarity(self, places: list[tuple[str, int]], moved: State, count: int, others: int) -> Tensor:
        total = torch.zeros(count, others, dtype=torch.float64)
        for tensor, axis in places:
            mine, theirs = _by_unit(self.one[tensor], axis, count), _by_unit(moved[tensor], axis, others)
            total += mine.flatten(1) @ theirs.flatten(1).mT
        return total


def _by_unit(value: Tensor, axis: int, count: int) -> Tensor:
    """A view ``[count, m, d]`` with the units first."""
    return value.view(count, 1, -1) if axis == 0 else value.view(len(value), count, -1).transpose(0, 1)
