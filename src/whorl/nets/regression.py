"""Nets that predict numbers."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from whorl.nets.base import HiddenUnits, Regressor, chain
from whorl.nets.plain import Depth
from whorl.settings import Count

__all__ = ["MLPRegressor"]


class MLPRegressor(Regressor):
    """Fully connected ReLU layers of the given width, as many as ``depth``, and a linear output."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, width: Count = 64, depth: Depth = 2) -> None:
        super().__init__(input_shape, classes)
        widths = [torch.Size(input_shape).numel(), *[width] * depth]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.head = nn.Linear(width, classes)

    def embed(self, normalised: Tensor) -> Tensor:
        """Output of the last hidden layer."""
        x = normalised.flatten(1)
        for layer in self.layers:
            x = relu(layer(x))
        return x

    def hidden_units(self) -> list[HiddenUnits]:
        """Neurons of every hidden layer."""
        return chain([*self.layers, self.head])
