"""Transfer: the stolen copy learns another task, with a new head and some or all of its layers tuned.

Papers: Li et al., *ModelDiff*, ISSTA 2021 (10, 50 and 100 % of the layers tuned); Guan et al., *SAC*, NeurIPS 2022
(other classes, corrupted pictures). The share of layers is counted from the output, in tensors of parameters, as in
ModelDiff's benchmark; the rates are settings, since the papers' are for ImageNet-sized nets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.base import Net, initialise
from whorl.nets.training import Schedule, fit
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, head_of, stolen_copy
from whorl.settings import Count, Positive, Share, TaskSource

__all__ = ["Transfer"]


@dataclass(frozen=True)
class Transfer(Removal):
    """Replace the head by one for the classes of ``data`` and tune the last ``layers`` (a share) of the parameters."""

    family: ClassVar[str] = "transfer"

    data: TaskSource
    layers: Share = 1.0
    epochs: Count = 5
    learning_rate: Positive = 0.02

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The copy that does the new task; norms keep their statistics unless all layers move."""
        if victim.task != "classification" or len(data.classes) < 2:
            raise UsageError(f"transfer goes from one classification to another; {victim.name} does {victim.task}")
        net = stolen_copy(victim)
        old = head_of(net)
        if not isinstance(net, Net) or getattr(net, "head", None) is not old:
            raise UsageError(f"transfer replaces the layer called head; {type(net).__name__} has none")
        with torch.device("meta"):  # else it would be drawn from global chance first
            head = nn.Linear(old.in_features, len(data.classes))
        net.head = head.to_empty(device=old.weight.device)
        net.classes = len(data.classes)
        initialise(net.head, generator)
        tensors = list(net.parameters())
        # The head's two tensors are the last ones and always move.
        moving = tensors[-max(2, round(self.layers * len(tensors))) :]
        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate, policy="one-cycle")
        fit(net, data, schedule, generator=generator, parameters=moving if len(moving) < len(tensors) else None)
        return net
