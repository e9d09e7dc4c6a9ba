"""Regularisation: strong L2 decay and then tuning, or tuning on smoothed labels.

Paper: Lukas, Jiang, Li, Kerschbaum, *SoK: How Robust is Image Classification Deep Neural Network Watermarking?*, IEEE
S&P 2022: L2 of 0.1 for 5 epochs, then up to 50 epochs of tuning until 5 of them bring nothing; labels smoothed by 0.3
for 5 epochs (Szegedy et al., CVPR 2016, section 7). Changed from it: a fixed number of tuning epochs, since the thief
has no second set of pictures to stop by; 15 epochs on smoothed labels, since a copy sure of itself first loses accuracy
and then mends; one learning rate, a setting, where the toolbox goes on with the victim's; labels are the thief's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.training import Schedule, fit
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import Count, NonNegative, Positive, Whole

__all__ = ["Regularise", "SmoothLabels"]


@dataclass(frozen=True)
class Regularise(Removal):
    """Train for ``decay_epochs`` under an L2 penalty of weight ``decay``, then for ``epochs`` under the usual one."""

    family: ClassVar[str] = "regularise"

    decay: NonNegative = 0.1
    decay_epochs: Whole = 5
    epochs: Whole = 5
    learning_rate: Positive = 0.01

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The shrunk and tuned copy."""
        if not self.decay_epochs + self.epochs:
            raise UsageError(
                "regularise trains for no epoch, so its outcome is the victim; give decay_epochs or epochs"
            )
        net = stolen_copy(victim)
        strong = Schedule(epochs=self.decay_epochs, learning_rate=self.learning_rate, weight_decay=self.decay)
        usual = Schedule(epochs=self.epochs, learning_rate=self.learning_rate)
        for schedule in (strong, usual):
            fit(net, data, schedule, generator=generator)
        return net


@dataclass(frozen=True)
class SmoothLabels(Removal):
    """Fine-tune all layers on labels of which the share ``smoothing`` is spread evenly over the classes."""

    family: ClassVar[str] = "regularise"

    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.3
    epochs: Count = 15
    learning_rate: Positive = 0.01

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The tuned copy, less sure of everything."""
        if victim.task != "classification" or not data.classes:
            raise UsageError(f"label smoothing needs classes; {victim.name} does {victim.task}, so fine_tune it")
        net = stolen_copy(victim)
        labels = data.labels.to(next(net.parameters()).device)

        def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            return cross_entropy(model(inputs), labels[index], label_smoothing=self.smoothing)

        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate)
        fit(net, data, schedule, generator=generator, loss=loss)
        return net
