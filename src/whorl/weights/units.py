"""Which hidden units, axes and experts of one net are those of another that has more or fewer of them.

Units are looked for by two of their parts, in token space whose tokens spread alike
(`whorl.weights.pairing.Basis.whitened`), so that order, signs and a rotated stream make no difference; axes of the
stream are looked for by the embedding, which a rotation hides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from whorl.checkpoints.roles import NONE, Weights
from whorl.weights.independence import match_units
from whorl.weights.pairing import spread

__all__ = ["Found", "Units", "find_units", "idle_units", "shared_axes"]

NEAR: Final = 0.5  # cosine of two axes that are one
ALIKE: Final = 0.95  # of two units that read the same
CHUNK: Final = 1024  # units compared at a time
DEAD: Final = 0.05  # of what a unit usually writes


@dataclass(frozen=True)
class Found:
    """How much of some units is among others: the ``share`` of them, and of the others' rest that is ``idle``."""

    share: float
    idle: float


@dataclass(frozen=True)
class Units:
    """Some or all hidden units of a layer, in token space: what they read by, a second part of them, what they write.

    The second part is the ungated branch where both nets have gates, else what they write.

    Shape:
        read, second, written: ``[units, m]``.
    """

    read: Tensor
    second: Tensor
    written: Tensor
    gated: bool

    @cached_property
    def idle(self) -> Tensor:
        """Which of them write next to nothing, or read what another one reads."""
        return idle_units(self.read, self.written)

    @classmethod
    def of(cls, net: Weights, layer: int, expert: int, axes: Tensor | None, *, gated: bool, most: int = 0) -> Units:
        """Those of one expert (`NONE`: of a dense layer), ``most`` of them evenly spread, or all."""
        total = net.rows("up", layer, expert)
        rows = spread(total, most or total)

        def seen(role: str) -> Tensor:
            blocks = net.blocks(role, layer, expert, rows)
            return torch.cat([block.clone() if axes is None else block @ axes for block in blocks])

        written = net.read("down", layer, expert)[:, rows].T
        written = written if axes is None else written @ axes
        up = seen("up")
        return cls(seen("gate"), up, written, True) if gated else cls(up, written, written, False)


def height(net: Weights, layer: int) -> int:
    """Hidden units of a dense layer; 0 where it has experts."""
    return net.rows("up", layer) if (layer, NONE) in net.structure.mlps() else 0


def find_units(few: Units, many: Units) -> Found:
    """Look for units among others. One is found where both its parts are nearest to the same one.

    Among units that are equally near each part draws for itself: drawn alike, dead or equal units would be found.
    """
    chance = torch.Generator().manual_seed(len(many.read))
    one = match_units(few.read, many.read, generator=chance).nearest
    two = match_units(few.second, many.second, signed=not few.gated, generator=chance).nearest
    rest = torch.ones(len(many.read), dtype=torch.bool)
    rest[one] = False
    idle = float(many.idle[rest].float().mean()) if rest.any() else 0.0
    return Found(float((one == two).float().mean()), idle)


def idle_units(read: Tensor, written: Tensor) -> Tensor:
    """Units that write next to nothing, or read what another one reads.

    Shape:
        read, written: ``[h, m]``; returns ``[h]``, true where idle.
    """
    size, unit = written.norm(dim=1), normalize(read, dim=1)
    nearest = [(some @ unit.T).topk(min(2, len(unit))).values[:, -1] for some in unit.split(CHUNK)]
    alike = torch.cat(nearest)  # the first is each unit itself
    return (size < DEAD * size.median()) | (alike > ALIKE)


def shared_axes(ours: Tensor, theirs: Tensor) -> float:
    """Share of the rows of the shorter that are nearest, both ways, to a row of the longer, and near it.

    Shape:
        ours: ``[width of A, m]``; theirs: ``[width of B, m]``.
    """
    few, many = sorted((ours, theirs), key=len)
    found = match_units(few, many)
    near = torch.cosine_similarity(few, many[found.nearest], dim=1) > NEAR
    return float((found.mutual & near).float().mean())
