"""What every reference net promises: inputs in [0, 1], its own objective, a linear head, hidden units by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Final, final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from whorl.errors import UsageError
from whorl.types import Task

__all__ = [
    "DRAWN",
    "Classifier",
    "Decoder",
    "HiddenUnits",
    "Net",
    "Predictor",
    "Regressor",
    "chain",
    "convolution",
    "initialise",
    "refuse_huge",
    "refuse_incomplete",
]

Layer = nn.Conv2d | nn.Linear
MOST_PARAMETERS: Final = 1 << 30
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)  # which begin as the identity
DRAWN = (nn.Conv2d, nn.Linear, *NORMS)  # the layers whose weights `initialise` draws


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


class Net(nn.Module, ABC):
    """A net of any task from inputs in [0, 1] to ``classes`` outputs; normalisation is part of it.

    Shape:
        forward: ``[n, c, h, w]`` in [0, 1] to ``[n, classes]``.
    """

    task: ClassVar[Task]
    head: nn.Linear

    def __init__(self, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.classes = classes

    @abstractmethod
    def objective(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """What training minimises, a scalar: ``inputs`` ``[b, c, h, w]`` with their labels, as a data set has them."""

    @abstractmethod
    def hidden_units(self) -> list[HiddenUnits]:
        """Units outside residual streams, from input to output."""

    def standardise(self, images: Tensor) -> None:
        """Take from ``images`` ``[n, c, h, w]`` in [0, 1] what normalisation needs; nothing here."""


class Predictor(Net):
    """A net that says something of a picture.

    Shape:
        features: ``[n, c, h, w]`` in [0, 1] to ``[n, d]``, what the linear ``head`` reads.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__(input_shape, classes)
        self.register_buffer("mean", torch.full((input_shape[0], 1, 1), 0.5))
        self.register_buffer("std", torch.full((input_shape[0], 1, 1), 0.25))

    @abstractmethod
    def embed(self, normalised: Tensor) -> Tensor:
        """Features ``[n, d]`` of normalised pictures."""

    @final
    def features(self, inputs: Tensor) -> Tensor:
        """What the head reads, ``[n, d]``."""
        return self.embed((inputs - self.mean) / self.std)

    @final
    def forward(self, inputs: Tensor) -> Tensor:
        """Logits or predicted numbers ``[n, classes]``."""
        return self.head(self.features(inputs))

    @final
    def standardise(self, images: Tensor) -> None:
        """Take mean and spread per channel from ``images`` ``[n, c, h, w]`` in [0, 1]."""
        self.mean.copy_(images.mean((0, 2, 3)).view(-1, 1, 1))
        self.std.copy_(images.std((0, 2, 3)).clamp_min(1e-3).view(-1, 1, 1))


class Classifier(Predictor):
    """A net whose outputs are logits; it learns labels by cross-entropy."""

    task: ClassVar[Task] = "classification"

    def objective(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy."""
        del generator
        return cross_entropy(self(inputs), targets)


class Regressor(Predictor):
    """A net whose outputs are numbers; it learns them by mean squared error."""

    task: ClassVar[Task] = "regression"

    def objective(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error."""
        del generator
        return mse_loss(self(inputs), targets)


class Decoder(Net):
    """A net from latent codes in [0, 1], as pictures ``(1, 1, latent)``, to the pixels of a picture.

    It learns from pictures, by whatever encoder it brings along; ``latent`` is one of its parameters.
    """

    task: ClassVar[Task] = "generation"

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """The codes ``[n, 1, 1, latent]`` in [0, 1] of pictures ``[n, c, h, w]`` in [0, 1]."""


def refuse_incomplete(module: nn.Module) -> None:
    """Raise `UsageError` where a net of one's own lacks what its base asks for; a plain module is asked for nothing."""
    if not isinstance(module, Net):
        return
    kind, lacking = type(module).__name__, [name for name in ("input_shape", "classes") if not hasattr(module, name)]
    if isinstance(module, Predictor):
        lacking += [name for name in ("mean", "std") if not hasattr(module, name)]
    if lacking:
        raise UsageError(f"{kind} has no {lacking[0]}; type in its __init__: super().__init__(input_shape, classes)")
    if isinstance(module, Predictor) and not hasattr(module, "head"):
        raise UsageError(
            f"{kind} has no head; type in its __init__: self.head = nn.Linear(FEATURES, classes), with the number of "
            "features that embed gives"
        )


def refuse_huge(architecture: str, *, input_shape: tuple[int, int, int], classes: int) -> None:
    """Raise `UsageError` where a net of the catalog has more than 2^30 parameters, before any memory is taken."""
    from whorl.nets import NETS

    with torch.device("meta"):
        size = sum(
            value.numel() for value in NETS.make(architecture, input_shape=input_shape, classes=classes).parameters()
        )
    if size > MOST_PARAMETERS:
        raise UsageError(f"{architecture} has {size:,} parameters; at most {MOST_PARAMETERS:,} are built")


def chain(layers: list[nn.Module]) -> list[HiddenUnits]:
    """The units of layers each of which is read by the next one only."""
    return [
        HiddenUnits(producer, (), consumer)
        for producer, consumer in pairwise(layers)
        if isinstance(producer, nn.Conv2d | nn.Linear) and isinstance(consumer, nn.Conv2d | nn.Linear)
    ]


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
        elif isinstance(module, NORMS):
            module.reset_parameters()
