"""Boundary randomisation by data-dependent symmetry: noise where the thief's pictures have nothing to say.

A layer maps rows A of inputs (im2col for convolutions, a column of ones for the bias) to A W. Noise in the null space
of A changes W and, on those pictures, nothing of what W makes: the net answers them as before and is free elsewhere.
Source: the null space of linear maps; Zhao et al., ICLR 2023, arXiv 2210.17216, for group actions that depend on data.

No published attack: the thief hopes that random directions reach the boundary that fingerprints live on. They hardly do
(`tests/published/test_boundary_removals.py`). The rank of real data is full, so directions that hold the last 1e-4 of
the energy count as null by default; ``energy=1`` keeps to the numerical null space, where answers stay to float
accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.spans import Layer, joined, null_spaces, put
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import Positive, Share

__all__ = ["RandomiseBoundary"]


@dataclass(frozen=True)
class RandomiseBoundary(Removal):
    """Add isotropic noise of the relative size ``norm`` to each layer, outside of what its inputs span.

    What they span holds the share ``energy`` of their second moment. Layers that have no direction left stay as they
    are.
    """

    family: ClassVar[str] = "boundary"

    norm: Positive = 0.5
    energy: Share = 0.9999

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The randomised copy."""
        if victim.task == "generation":
            raise UsageError(
                f"what the thief's pictures span is asked of a net that looks at them; {victim.name} makes"
            )
        net = stolen_copy(victim)
        spare = null_spaces(net, data.inputs(), self.energy)
        if not any(basis.shape[1] for bases in spare.values() for basis in bases):
            raise UsageError(
                f"these {len(data)} pictures span every direction of every layer at energy={self.energy}; "
                "give less energy or fewer pictures"
            )
        for layer, bases in spare.items():
            _disturb(layer, bases, self.norm, generator)
        return net


@torch.no_grad()
def _disturb(layer: Layer, bases: list[Tensor], norm: float, generator: torch.Generator) -> None:
    """Add noise of ``norm`` times the layer's own norm, weights and bias together, within the bases."""
    weight = joined(layer)
    drawn = torch.randn(weight.shape, generator=generator).to(weight).double().chunk(len(bases))
    noise = torch.cat([part @ basis @ basis.mT for part, basis in zip(drawn, bases, strict=True)])
    if (size := noise.norm()) > 0:
        put(layer, (weight + noise * (norm * weight.norm() / size)).to(weight.dtype))
