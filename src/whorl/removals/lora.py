"""Updates of low rank: LoRA, trained beside the frozen weights and then merged into them; and weights cut to low rank.

Paper: Hu et al., *LoRA*, ICLR 2022: ``W + alpha / rank * B A`` with B zero at first and A drawn at random, here He
normal. A convolution is the matrix of its filters, ``[filters, inputs * height * width]``, as PEFT has it. The paper
adapts the attention of language models; what rank, rate and epochs suit a picture classifier is a setting, with the
customary rank of 8 and alpha of 16.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt, Le
from torch import Tensor, nn
from torch.nn.utils import parametrize

from whorl.data.base import Dataset
from whorl.nets.training import Schedule, fit
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import Count, NonNegative, Positive, Whole

__all__ = ["LoRA", "LowRank"]


class _Update(nn.Module):
    """A weight plus the product of two thin matrices."""

    def __init__(self, weight: Tensor, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.scale = alpha / rank
        rank = min(rank, rows, columns)
        drawn = nn.init.kaiming_normal_(torch.empty(rank, columns), generator=generator)  # where the generator is
        self.down = nn.Parameter(drawn.to(weight))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down).view(weight.shape)


@dataclass(frozen=True)
class LoRA(Removal):
    """Train an update of ``rank`` for each convolution and linear layer, all else frozen, and merge it.

    A layer whose smaller side is less than ``rank`` gets an update of that rank.
    """

    family: ClassVar[str] = "lora"

    rank: Count = 8
    alpha: NonNegative = 16.0
    epochs: Count = 3
    learning_rate: Positive = 0.003

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The copy with the updates merged; its norms keep their statistics."""
        net = stolen_copy(victim)
        layers = list(_layers(net))
        updates = [_Update(layer.weight.detach(), self.rank, self.alpha, generator) for layer in layers]
        for layer, update in zip(layers, updates, strict=True):
            parametrize.register_parametrization(layer, "weight", update)
        moving = [parameter for update in updates for parameter in update.parameters()]
        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate)
        fit(net, data, schedule, generator=generator, parameters=moving)
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight")
        return net


class _Product(nn.Module):
    """A weight as the product of two thin matrices."""

    def __init__(self, shape: torch.Size, rank: int) -> None:
        super().__init__()
        self.shape, self.rank = shape, rank

    def forward(self, up: Tensor, down: Tensor) -> Tensor:
        return (up @ down).view(self.shape)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest product (Eckart & Young, 1936), its singular values divided evenly."""
        left, sizes, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
        roots = sizes[: self.rank].sqrt()
        return left[:, : self.rank] * roots, roots[:, None] * right[: self.rank]


@dataclass(frozen=True)
class LowRank(Removal):
    """Cut each convolution and linear layer to the share ``rank`` of its rank, and tune the copy at that rank."""

    family: ClassVar[str] = "lora"

    rank: Annotated[float | Fraction, Gt(0), Le(1)] = Fraction(1, 2)
    epochs: Whole = 15
    learning_rate: Positive = 0.01

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The copy of low rank."""
        net = stolen_copy(victim)
        layers = list(_layers(net))
        for layer in layers:
            kept = max(1, round(float(self.rank) * min(layer.weight.flatten(1).shape)))
            parametrize.register_parametrization(layer, "weight", _Product(layer.weight.shape, kept), unsafe=True)
        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate)
        fit(net, data, schedule, generator=generator)
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight")
        return net


def _layers(net: nn.Module) -> Iterator[nn.Conv2d | nn.Linear]:
    yield from (module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear))
