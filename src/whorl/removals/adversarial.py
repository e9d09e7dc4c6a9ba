"""Adversarial fine-tuning: the stolen copy is trained on its own one-step adversarial examples.

Source: Goodfellow et al., ICLR 2015, with the random start of Wong et al., ICLR 2020. It moves the boundary that
boundary fingerprints live on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.training import Schedule, fit, own_loss
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy

__all__ = ["AdversarialFineTune"]


@dataclass(frozen=True)
class AdversarialFineTune(Removal):
    """Fine-tune all layers on FGSM examples within ``epsilon`` (in units of [0, 1] pixels)."""

    family: ClassVar[str] = "adversarial"

    epsilon: float = 0.03
    epochs: int = 2
    learning_rate: float = 0.01

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The hardened copy."""
        if victim.task == "generation":
            raise UsageError(
                f"adversarial fine-tuning perturbs the pictures a model looks at; {victim.name} makes them"
            )
        net = stolen_copy(victim)
        own = own_loss(net, data, generator)

        def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            start = torch.rand(inputs.shape, generator=generator).to(inputs.device) * 2 - 1
            point = (inputs + self.epsilon * start).clamp(0, 1).requires_grad_()
            (slope,) = torch.autograd.grad(own(model, point, index), point)
            moved = point.detach() + 1.25 * self.epsilon * slope.sign()
            moved = inputs + (moved - inputs).clamp(-self.epsilon, self.epsilon)
            return own(model, moved.clamp(0, 1), index)

        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate)
        fit(net, data, schedule, generator=generator, loss=loss)
        return net
