"""Adversarial training of the stolen copy: it moves the boundary that boundary fingerprints live on.

Sources: one step (FGSM) by Goodfellow et al., ICLR 2015, with the random start of Wong et al., ICLR 2020; PGD by Madry
et al., ICLR 2018, arXiv 1706.06083, equation 2.1; TRADES by Zhang et al., ICML 2019, arXiv 1901.08573, equation 5.

Changed from the papers: the copy is trained on, not a fresh net, since a thief wants to keep what was stolen; the rate
is constant. PGD and TRADES look for their examples in evaluation mode, so that norms learn from what is trained on
alone. Papers differ in steps and rates, so these are settings: the removal suite of Lukas et al. (IEEE S&P 2022) takes
epsilon in {.01, .1, .25}, steps of .01, 40 of them, 5 epochs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.modes import evaluating
from whorl.nets.training import Loss, Schedule, fit, own_loss
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import Count, NonNegative, Positive, Probability

__all__ = ["AdversarialFineTune", "AdversarialTrain", "Ball"]

NEAR = 0.001  # standard deviation of the start of TRADES, where the divergence that it climbs has no slope yet


@dataclass(frozen=True)
class Ball:
    """Where adversarial examples are looked for: within ``epsilon`` (pixels in [0, 1]), by ``iterations`` steps."""

    epsilon: float
    step: float
    iterations: int

    def random(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """A uniform start around each of ``inputs`` ``[b, c, h, w]``."""
        drawn = torch.rand(inputs.shape, generator=generator).to(inputs.device)
        return (inputs + self.epsilon * (drawn * 2 - 1)).clamp(0, 1)

    def climb(self, height: Callable[[Tensor], Tensor], inputs: Tensor, start: Tensor) -> Tensor:
        """Points ``[b, c, h, w]`` of the ball and of [0, 1] where the scalar ``height`` is larger."""
        point = start
        for _ in range(self.iterations):
            point = point.detach().requires_grad_()
            (slope,) = torch.autograd.grad(height(point), point)
            moved = point.detach() + self.step * slope.sign()
            point = (inputs + (moved - inputs).clamp(-self.epsilon, self.epsilon)).clamp(0, 1)
        return point

    def hardened(self, own: Loss, generator: torch.Generator) -> Loss:
        """The loss ``own`` at the worst point of the ball (Madry et al., equation 2.1)."""

        def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            with evaluating(model):
                start = self.random(inputs, generator)
                point = self.climb(lambda moved: own(model, moved, index), inputs, start)
            return own(model, point, index)

        return loss

    def traded(self, own: Loss, beta: float, generator: torch.Generator) -> Loss:
        """The loss ``own``, plus ``beta`` times how far answers move within the ball (Zhang et al., equation 5)."""

        def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            with evaluating(model):
                calm = model(inputs).detach()
                noise = torch.randn(inputs.shape, generator=generator).to(inputs.device)
                start = (inputs + NEAR * noise).clamp(0, 1)
                point = self.climb(lambda moved: _divergence(calm, model(moved)), inputs, start)
            return own(model, inputs, index) + beta * _divergence(model(inputs), model(point))

        return loss


@dataclass(frozen=True)
class AdversarialFineTune(Removal):
    """Fine-tune all layers on FGSM examples within ``epsilon`` (in units of [0, 1] pixels)."""

    family: ClassVar[str] = "adversarial"

    epsilon: Probability = 0.03
    epochs: Count = 2
    learning_rate: Positive = 0.01

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The hardened copy."""
        net = _looking(victim)
        own = own_loss(net, data, generator)
        ball = Ball(self.epsilon, 1.25 * self.epsilon, 1)

        def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            start = ball.random(inputs, generator)
            return own(model, ball.climb(lambda moved: own(model, moved, index), inputs, start), index)

        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate)
        fit(net, data, schedule, generator=generator, loss=loss)
        return net


@dataclass(frozen=True)
class AdversarialTrain(Removal):
    """Train all layers by PGD (``pgd``) or TRADES (``trades``, with the weight ``beta`` of its second term).

    ``epsilon`` is the radius in the largest norm and ``step`` the length of each of the ``iterations``, in units of
    [0, 1] pixels.
    """

    family: ClassVar[str] = "adversarial"

    method: Literal["pgd", "trades"] = "pgd"
    epsilon: Probability = 0.03
    step: Probability = 0.0075
    iterations: Count = 7
    beta: NonNegative = 6.0
    epochs: Count = 5
    learning_rate: Positive = 0.01

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The hardened copy."""
        if self.method == "trades" and victim.task != "classification":
            raise UsageError(f"TRADES compares class probabilities; {victim.name} does {victim.task}. Take method=pgd")
        ball, net = Ball(self.epsilon, self.step, self.iterations), _looking(victim)
        own = own_loss(net, data, generator)
        loss = ball.hardened(own, generator) if self.method == "pgd" else ball.traded(own, self.beta, generator)
        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate)
        fit(net, data, schedule, generator=generator, loss=loss)
        return net


def _looking(victim: Oracle) -> nn.Module:
    """A copy of a victim that looks at pictures."""
    if victim.task == "generation":
        raise UsageError(f"adversarial fine-tuning perturbs the pictures a model looks at; {victim.name} makes them")
    return stolen_copy(victim)


def _divergence(calm: Tensor, moved: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the class probabilities at ``moved`` from those at ``calm``, of logits."""
    return kl_div(moved.log_softmax(1), calm.log_softmax(1), reduction="batchmean", log_target=True)
