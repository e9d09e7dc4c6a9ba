"""What every reference net promises: inputs in [0, 1], features, a linear head, and its hidden units by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

__all__ = ["Classifier", "HiddenUnits", "convolution", "initialise"]

Layer = nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class HiddenUnits:
    """Filters or neurons that one layer makes and one layer reads, so they can be permuted, scaled or removed.

    ``carriers`` stand between in order: norms and depthwise convolutions, which act channel by channel. A ReLU
    follows the last of them (or the producer, where there is none).
    """

    producer: Layer
    carriers: tuple[nn.BatchNorm2d | nn.Conv2d, ...]
    consumer: Layer

    @property
    def count(self) -> int:
        """How many units there are."""
        return int(self.producer.weight.shape[0])


class Classifier(nn.Module, ABC):
    """A net from pictures in [0, 1] to logits; normalisation is part of it.

    Shape:
        forward: ``[n, c, h, w]`` in [0, 1] to ``[n, classes]``.
        features: the same to ``[n, d]``, what the linear ``head`` reads.
    """

    head: nn.Linear
    mean: Tensor
    std: Tensor

    def __init__(self, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.classes = classes
        self.register_buffer("mean", torch.full((input_shape[0], 1, 1), 0.5))
        self.register_buffer("std", torch.full((input_shape[0], 1, 1), 0.25))

    @abstractmethod
    def embed(self, normalised: Tensor) -> Tensor:
        """Features ``[n, d]`` of normalised pictures."""

    @abstractmethod
    def hidden_units(self) -> list[HiddenUnits]:
        """Units outside residual streams, from input to output."""

    @final
    def features(self, inputs: Tensor) -> Tensor:
        """What the head reads, ``[n, d]``."""
        return self.embed((inputs - self.mean) / self.std)

    @final
    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``[n, classes]``."""
        return self.head(self.features(inputs))

    @final
    def standardise(self, images: Tensor) -> None:
        """Take mean and spread per channel from ``images`` ``[n, c, h, w]`` in [0, 1]."""
        self.mean.copy_(images.mean((0, 2, 3)).view(-1, 1, 1))
        self.std.copy_(images.std((0, 2, 3)).clamp_min(1e-3).view(-1, 1, 1))


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A same-padded convolution without bias, as used before a norm."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


def initialise(net: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights anew: He normal for convolutions and linear layers, identity for norms.

    Source: He et al., ICCV 2015, equation 10 (fan-in form).
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            drawn = torch.empty(module.weight.shape)  # on the CPU, where the generator is
            module.weight.data.copy_(nn.init.kaiming_normal_(drawn, nonlinearity="relu", generator=generator))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
