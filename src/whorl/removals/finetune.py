"""Fine-tuning and retraining: FTLL, FTAL, RTLL, RTAL.

Paper: Cao, Jia, Gong, *IPGuard*, AsiaCCS 2021, section 5.1 (names after Adi et al., USENIX Security 2018). LL moves
the last layer alone, AL all layers; retraining draws the last layer anew first. Papers differ in rates and epochs,
so both are settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from whorl.data.base import Dataset
from whorl.nets.base import initialise
from whorl.nets.training import Schedule, fit
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, head_of, stolen_copy
from whorl.settings import Count, Positive

__all__ = ["FineTune", "Retrain"]

Layers = Literal["last", "all"]


@dataclass(frozen=True)
class FineTune(Removal):
    """FTLL (``last``) and FTAL (``all``): go on training on the thief's labelled pictures."""

    family: ClassVar[str] = "fine-tune"

    layers: Layers = "all"
    epochs: Count = 3
    learning_rate: Positive = 0.01

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The tuned copy."""
        return _tune(stolen_copy(victim), self, data, generator)


@dataclass(frozen=True)
class Retrain(Removal):
    """RTLL (``last``) and RTAL (``all``): draw the last layer anew, then train it alone or with the rest."""

    family: ClassVar[str] = "retrain"

    layers: Layers = "all"
    epochs: Count = 3
    learning_rate: Positive = 0.02

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The retrained copy."""
        net = stolen_copy(victim)
        initialise(head_of(net), generator)
        return _tune(net, self, data, generator)


def _tune(net: nn.Module, removal: FineTune | Retrain, data: Dataset, generator: torch.Generator) -> nn.Module:
    parameters = list(head_of(net).parameters()) if removal.layers == "last" else None
    schedule = Schedule(epochs=removal.epochs, learning_rate=removal.learning_rate)
    fit(net, data, schedule, generator=generator, parameters=parameters)
    return net
