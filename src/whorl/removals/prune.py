"""Pruning of weights and of filters, each followed by fine-tuning that keeps the pruned ones at zero.

Papers: Han et al., NeurIPS 2015 (smallest weights, here over the whole net); Li et al., ICLR 2017 (filters with the
smallest L1 norm; in residual blocks only the inner layer, section 3.3). IPGuard prunes a share p of the weights, and
c/16 of the filters. Filters are zeroed, not cut out: the function is the same and any net can be treated.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.base import Net
from whorl.nets.training import Schedule, fit
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import Positive, Whole

__all__ = ["PruneFilters", "PruneWeights"]

Masks = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class PruneWeights(Removal):
    """Zero the share ``amount`` of the weights of all convolutions and linear layers, smallest first."""

    family: ClassVar[str] = "prune weights"

    amount: Annotated[float | Fraction, Ge(0), Lt(1)] = 0.5
    epochs: Whole = 2
    learning_rate: Positive = 0.005

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The pruned and tuned copy."""
        net = stolen_copy(victim)
        weights = [module.weight for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        magnitudes = torch.cat([weight.detach().abs().flatten() for weight in weights])
        kept = torch.ones_like(magnitudes, dtype=torch.bool)
        # By rank, not by a threshold: a quantised net has many weights of equal size.
        kept[magnitudes.argsort(stable=True)[: round(float(self.amount) * len(kept))]] = False
        parts = kept.split([weight.numel() for weight in weights])
        masks: Masks = [(weight, part.view_as(weight)) for weight, part in zip(weights, parts, strict=True)]
        return _tune(net, masks, self, data, generator)


@dataclass(frozen=True)
class PruneFilters(Removal):
    """Zero the share ``amount`` of the filters of each layer whose units no residual stream reads."""

    family: ClassVar[str] = "prune filters"

    amount: Annotated[float | Fraction, Ge(0), Lt(1)] = Fraction(1, 4)
    epochs: Whole = 2
    learning_rate: Positive = 0.01

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The pruned and tuned copy."""
        net = stolen_copy(victim)
        if not isinstance(net, Net) or not net.hidden_units():
            raise UsageError(f"filter pruning needs a net that names its hidden units; {type(net).__name__} does not")
        masks: Masks = []
        for units in net.hidden_units():
            weight = units.producer.weight
            norms = weight.detach().flatten(1).abs().sum(1)
            kept = torch.ones(units.count, dtype=torch.bool, device=weight.device)
            kept[norms.argsort()[: round(float(self.amount) * units.count)]] = False
            shape = (-1, *[1] * (weight.ndim - 1))
            masks.append((weight, kept.view(shape).expand_as(weight)))
            for layer in (units.producer, *units.carriers):
                masks += [(vector, kept) for vector in layer.parameters() if vector.ndim == 1]
        return _tune(net, masks, self, data, generator)


def _tune(
    net: nn.Module,
    masks: Masks,
    removal: PruneWeights | PruneFilters,
    data: Dataset,
    generator: torch.Generator,
) -> nn.Module:
    @torch.no_grad()
    def enforce() -> None:
        for parameter, mask in masks:
            parameter.mul_(mask)

    enforce()
    schedule = Schedule(epochs=removal.epochs, learning_rate=removal.learning_rate)
    fit(net, data, schedule, generator=generator, after_step=enforce)
    return net
