"""FT-SAM: fine-tuning towards flat minima, which moves the weights that a trojan lives on.

Paper: Zhu, Wei, Shen, Fan, Wu, *Enhancing Fine-Tuning Based Backdoor Defense with Sharpness-Aware Minimization*, ICCV
2023, arXiv 2304.11823. Every step takes the gradient at the worst weights nearby, where large weights may move
further (adaptive SAM: Kwon et al., ICML 2021): e = radius w^2 g / ||w g||, with g the gradient at w. The radius and
the schedule are settings, not the paper's.

The paper is said to report a success near zero (UNVERIFIED). On a ResNet-8 of width 8 about half is left
(`docs/trojans.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from whorl.data.base import Dataset
from whorl.nets.training import Loss, Schedule, fit, own_loss
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import Count, Positive

__all__ = ["SharpnessTuning"]

LEAST = 1e-12  # of the norm, where the gradient vanishes


@dataclass(frozen=True)
class SharpnessTuning(Removal):
    """Fine-tune all layers by gradients taken ``radius`` away, in units of the weights."""

    family: ClassVar[str] = "fine-tune"

    radius: Positive = 2.0
    epochs: Count = 5
    learning_rate: Positive = 0.01

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The tuned copy."""
        net = stolen_copy(victim)
        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate)
        loss = _sharpened(own_loss(net, data, generator), self.radius)
        fit(net, data, schedule, generator=generator, loss=loss)
        return net


class _Told(nn.Module):
    """A loss as a module that owns the net, so that it can be asked with other weights."""

    def __init__(self, net: nn.Module, own: Loss) -> None:
        super().__init__()
        self.net = net
        self.own = own

    def forward(self, inputs: Tensor, index: Tensor) -> Tensor:
        return self.own(self.net, inputs, index)


def _sharpened(own: Loss, radius: float) -> Loss:
    """The loss ``own`` at the worst weights nearby: its gradient there is what the weights themselves are moved by."""

    def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
        told = _Told(model, own)
        weights = {name: value for name, value in told.named_parameters() if value.requires_grad}
        found = torch.autograd.grad(told(inputs, index), list(weights.values()), allow_unused=True)
        slopes = {name: slope for name, slope in zip(weights, found, strict=True) if slope is not None}
        size = torch.stack([(weights[name].detach() * slope).norm() for name, slope in slopes.items()]).norm()
        scale = radius / size.clamp_min(LEAST)
        worst = {
            name: weights[name] + scale * weights[name].detach().square() * slope for name, slope in slopes.items()
        }
        # Norms count each batch once: what the second pass would add goes into copies.
        spare = {name: value.clone() for name, value in told.named_buffers()}
        return functional_call(told, worst | spare, (inputs, index))

    return loss
