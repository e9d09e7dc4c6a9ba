"""Weights in fewer bits: fp16, bf16, and symmetric int8 / int4 per output channel, computed in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from whorl.data.base import Dataset
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy

__all__ = ["Quantise"]

_BITS = {"int8": 8, "int4": 4}
_FLOATS = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Quantise(Removal):
    """Round the weights of convolutions and linear layers to ``format``; everything else stays float32."""

    family: ClassVar[str] = "quantise"

    format: Literal["fp16", "bf16", "int8", "int4"] = "int8"

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The copy with rounded weights."""
        del data, generator  # rounding needs neither pictures nor chance
        net = stolen_copy(victim)
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.data = self._round(module.weight.data)
        return net

    def _round(self, weight: Tensor) -> Tensor:
        if self.format in _FLOATS:
            return weight.to(_FLOATS[self.format]).to(weight.dtype)
        largest = 2 ** (_BITS[self.format] - 1) - 1
        scale = weight.flatten(1).abs().amax(1).clamp_min(1e-12) / largest
        scale = scale.view(-1, *[1] * (weight.ndim - 1))
        return (weight / scale).round().clamp(-largest, largest) * scale
