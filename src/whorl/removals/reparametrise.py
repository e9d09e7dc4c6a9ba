"""Another set of weights for the same function: hidden units permuted and scaled.

ReLU commutes with permutations and with positive factors, so the thief can hide the weights without changing one
answer. Source: Phuong & Lampert, ICLR 2020 (these are the only such maps of suitable ReLU nets).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.base import HiddenUnits, Net
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import NonNegative

__all__ = ["Reparametrise"]


@dataclass(frozen=True)
class Reparametrise(Removal):
    """Permute all hidden units and scale them by factors 10^U(-spread, spread)."""

    family: ClassVar[str] = "reparametrise"

    spread: NonNegative = 1.0

    @torch.no_grad()
    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The copy with other weights and the same function."""
        del data
        net = stolen_copy(victim)
        if not isinstance(net, Net) or not net.hidden_units():
            raise UsageError(f"re-parametrisation needs the hidden units by name; {type(net).__name__} gives none")
        for units in net.hidden_units():
            order = torch.randperm(units.count, generator=generator)
            factors = 10 ** ((torch.rand(units.count, generator=generator) * 2 - 1) * self.spread)
            _permute(units, order.to(units.producer.weight.device))
            _scale(units, factors.to(units.producer.weight.device))
        return net


def _permute(units: HiddenUnits, order: Tensor) -> None:
    for layer in (units.producer, *units.carriers):
        for tensor in (*layer.parameters(), *layer.buffers()):
            if tensor.ndim:  # the count of batches seen is a scalar
                tensor.copy_(tensor[order])
    read = _by_unit(units)
    read.copy_(read[:, order].clone())


def _scale(units: HiddenUnits, factors: Tensor) -> None:
    # Only what follows the last norm survives it: the norm's own gain and offset.
    last = next((layer for layer in reversed(units.carriers) if isinstance(layer, nn.BatchNorm2d)), units.producer)
    for tensor in last.parameters():
        tensor.mul_(factors.view(-1, *[1] * (tensor.ndim - 1)))
    read = _by_unit(units)
    read.div_(factors.view(1, -1, *[1] * (read.ndim - 2)))


def _by_unit(units: HiddenUnits) -> Tensor:
    """The consumer's weights with axis 1 counting units; a flattened map gives each unit several columns."""
    weight = units.consumer.weight
    if isinstance(units.consumer, nn.Linear) and weight.shape[1] != units.count:
        return weight.view(weight.shape[0], units.count, -1)
    return weight
