"""What the inputs of each layer span, and the directions that are left: there weights change and answers stay.

A layer maps rows A of inputs (im2col for convolutions, a column of ones for the bias) to A W. What is added to W within
the null space of A changes, on those inputs, nothing of what W makes. The rank of real data is full, so directions that
hold next to none of the second moment count as null, by choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, unfold

from whorl.errors import UsageError

__all__ = ["Layer", "joined", "null_spaces", "put"]

Layer = nn.Conv2d | nn.Linear
BATCH = 100


def null_spaces(net: nn.Module, inputs: Tensor, energy: float) -> dict[Layer, list[Tensor]]:
    """For each layer that is asked about ``inputs`` ``[n, c, h, w]``, an orthonormal basis ``[d, k]`` a group, k >= 0.

    The rest of the d directions (as of `joined`) holds the share ``energy`` of the second moment of the layer's inputs.
    The net is to be in evaluation mode. Raises `UsageError` for convolutions that are not padded by zeros in numbers.
    """
    return {layer: _null_space(moment, energy) for layer, moment in _moments(net, inputs).items()}


@torch.inference_mode()
def _moments(net: nn.Module, inputs: Tensor) -> dict[Layer, Tensor]:
    """For each layer that is asked, the second moments ``[groups, d, d]`` of its inputs, in float64."""
    found: dict[Layer, Tensor] = {}

    def watch(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, Layer)
        rows = _rows(layer, given[0]).double()
        moment = rows.mT @ rows
        found[layer] = found[layer] + moment if layer in found else moment

    with _watched(net, watch):
        device = next(net.parameters()).device
        for chunk in inputs.split(BATCH):
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
            raise UsageError(f"what inputs span is read of convolutions padded by zeros in numbers, not of {layer}")
        patches = unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # pyright: ignore
        rows = patches.unflatten(1, (layer.groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)
    return rows if layer.bias is None else pad(rows, (0, 1), value=1.0)


def _null_space(moment: Tensor, energy: float) -> list[Tensor]:
    """An orthonormal basis ``[d, k]`` for each group, k down to 0, of what holds less than 1 - ``energy``."""
    values, vectors = torch.linalg.eigh(moment)
    noise = moment.shape[-1] * torch.finfo(moment.dtype).eps * values[:, -1:]
    spare = values.clamp_min(0).cumsum(1) <= (1 - energy) * values.clamp_min(0).sum(1, keepdim=True) + noise
    return [basis[:, chosen] for basis, chosen in zip(vectors, spare, strict=True)]


def joined(layer: Layer) -> Tensor:
    """Weights and bias as one matrix ``[outputs, d]``, a copy; the bias is its last column."""
    weight = layer.weight.detach().flatten(1)
    return weight.clone() if layer.bias is None else torch.cat([weight, layer.bias.detach()[:, None]], 1)


@torch.no_grad()
def put(layer: Layer, matrix: Tensor) -> None:
    """Write a matrix as of `joined` back into the layer."""
    if layer.bias is not None:
        layer.bias.copy_(matrix[:, -1])
        matrix = matrix[:, :-1]
    layer.weight.copy_(matrix.view_as(layer.weight))
