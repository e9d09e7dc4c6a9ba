"""Unlearning a trigger: the one that Neural Cleanse inverts is stamped on pictures that keep their true labels.

Paper: Wang et al., *Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks*, IEEE S&P 2019,
section VI: one epoch on a tenth of the training data, a fifth of which carries the trigger. Here the trigger is
inverted from the thief's own pictures, for the class that sticks out most, whether or not the net is trojaned. Where
none is, a patch is unlearned that nobody planted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from whorl.data.base import Dataset
from whorl.data.triggers import Overlay
from whorl.detection.trojans import culprit_of
from whorl.inspection.neural_cleanse import NeuralCleanse
from whorl.nets.training import Schedule, fit, own_loss
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, opened, stolen_copy
from whorl.settings import Count, Positive, Share

__all__ = ["UnlearnTrigger"]


@dataclass(frozen=True)
class UnlearnTrigger(Removal):
    """Invert a trigger with ``steps`` of ``restarts`` masks a class, then tune on pictures of which ``share`` carry it.

    Pictures of the trigger's own class never carry it: they would teach nothing.
    """

    family: ClassVar[str] = "fine-tune"

    share: Share = 0.2
    epochs: Count = 5
    learning_rate: Positive = 0.01
    steps: Count = 300
    restarts: Count = 2

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The tuned copy."""
        net = stolen_copy(victim)
        trigger = self.trigger(victim, data, generator=generator)
        own, schedule = own_loss(net, data, generator), Schedule(epochs=self.epochs, learning_rate=self.learning_rate)

        def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            carries = (torch.rand(len(index), generator=generator) < self.share) & (
                data.labels[index] != trigger.target
            )
            carries = carries.to(inputs.device)
            return own(model, torch.where(carries[:, None, None, None], trigger.stamp(inputs), inputs), index)

        fit(net, data, schedule, generator=generator, loss=loss)
        return net

    def trigger(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Overlay:
        """The smallest patch that turns the thief's pictures into one class.

        Raises as `NeuralCleanse` does where the victim is no classifier of three classes or more, or pictures are few.
        """
        statistic = NeuralCleanse(steps=self.steps, restarts=self.restarts)
        net = statistic.check(opened(stolen_copy(victim), victim, name=victim.name), data)
        found = statistic.scores(net, data, generator=generator)
        assert found.masks is not None
        assert found.patterns is not None
        culprit = culprit_of(tuple(found.values.double().tolist()), statistic.worse)
        return Overlay(culprit, found.masks[culprit], found.patterns[culprit])
