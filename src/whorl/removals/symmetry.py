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

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, unfold

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import Positive, Share

__all__ = ["RandomiseBoundary"]

Layer = nn.Conv2d | nn.Linear
BATCH = 100


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
        spare = {layer: _null_space(moment, self.energy) for layer, moment in _moments(net, data).items()}
        if not any(basis.shape[1] for bases in spare.values() for basis in bases):
            raise UsageError(
                f"these {len(data)} pictures span every direction of every layer at energy={self.energy}; "
                "give less energy or fewer pictures"
            )
        for layer, bases in spare.items():
            _disturb(layer, bases, self.norm, generator)
        return net


@torch.inference_mode()
def _moments(net: nn.Module, data: Dataset) -> dict[Layer, Tensor]:
    """For each layer that is asked, the second moments ``[groups, d, d]`` of its inputs, in float64."""
    found: dict[Layer, Tensor] = {}

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, Layer)
        rows = _rows(layer, inputs[0]).double()
        moment = rows.mT @ rows
        found[layer] = found[layer] + moment if layer in found else moment

    with _watched(net, watch):
        device = next(net.parameters()).device
        for chunk in data.inputs().split(BATCH):
            net(chunk.to(device))
    return found


@contextmanager
def _watched(net: nn.Module, watch: object) -> Iterator[None]:
    handles = [
        layer.register_forward_pre_hook(watch)  # pyright: ignore[reportArgumentType]
        for layer in net.modules()
        if isinstance(layer, Layer)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(layer: Layer, inputs: Tensor) -> Tensor:
    """What each output of the layer is a linear function of, ``[groups, n, d]``; ones in the last column for a bias."""
    if isinstance(layer, nn.Linear):
        rows = inputs.reshape(1, -1, layer.in_features)
    else:
        if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
            raise UsageError(f"boundary randomisation reads convolutions padded by zeros in numbers, not {layer}")
        patches = unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # pyright: ignore
        rows = patches.unflatten(1, (layer.groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)
    return rows if layer.bias is None else pad(rows, (0, 1), value=1.0)


def _null_space(moment: Tensor, energy: float) -> list[Tensor]:
    """An orthonormal basis ``[d, k]`` for each group, k down to 0, of what holds less than 1 - ``energy``."""
    values, vectors = torch.linalg.eigh(moment)
    noise = moment.shape[-1] * torch.finfo(moment.dtype).eps * values[:, -1:]
    spare = values.clamp_min(0).cumsum(1) <= (1 - energy) * values.clamp_min(0).sum(1, keepdim=True) + noise
    return [basis[:, chosen] for basis, chosen in zip(vectors, spare, strict=True)]


@torch.no_grad()
def _disturb(layer: Layer, bases: list[Tensor], norm: float, generator: torch.Generator) -> None:
    """Add noise of ``norm`` times the layer's own norm, weights and bias together, within the bases."""
    weight = layer.weight.flatten(1)
    if layer.bias is not None:
        weight = torch.cat([weight, layer.bias[:, None]], 1)
    drawn = torch.randn(weight.shape, generator=generator).to(weight).double().chunk(len(bases))
    noise = torch.cat([part @ basis @ basis.mT for part, basis in zip(drawn, bases, strict=True)])
    if (size := noise.norm()) > 0:
        weight = (weight + noise * (norm * weight.norm() / size)).to(weight.dtype)
        if layer.bias is not None:
            layer.bias.copy_(weight[:, -1])
            weight = weight[:, :-1]
        layer.weight.copy_(weight.view_as(layer.weight))
