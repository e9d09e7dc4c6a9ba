"""Untargeted sign-gradient adversarial examples.

Papers: Goodfellow et al., ICLR 2015 (FGSM); Kurakin et al., ICLR 2017 workshop (IGSM, also called BIM). IPGuard
compares against both; its step sizes are not published, so they are settings here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.base import Sampler, draw, gradient_of
from whorl.queries.negatives import Negatives
from whorl.settings import Count, Probability, Radius
from whorl.types import Access, Asked, Queries

__all__ = ["AdversarialPairs", "NegativeAdversarialPairs", "SignGradient"]


@dataclass(frozen=True, kw_only=True)
class SignGradient(Sampler):
    """Raise the cross-entropy of the victim's own label by sign steps within ``epsilon`` of a natural picture.

    Parameters:
        epsilon: largest change of a pixel, in units of [0, 1].
        steps: 1 is FGSM; more is IGSM.
        step: size of one step; 0 means epsilon for one step and epsilon / 10 for several.
    """

    needs_victim: ClassVar[Access] = Access.GRADIENTS
    part: ClassVar[str] = "victim"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/seeds": Layout("n *input", "input"),
        "companions/source": Layout("n", "int64", 0, "k"),
    }

    epsilon: Radius = 0.06
    steps: Count = 1
    step: Probability = 0.0

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Adversarial pictures with their seeds."""
        model = gradient_of(victim)
        seeds = self.seeds(victim, data, budget, generator)
        source = victim.labels(seeds)
        device = getattr(victim, "device", seeds.device)
        origin, label = seeds.to(device), source.to(device)
        size = self.step or (self.epsilon if self.steps == 1 else self.epsilon / 10)
        point = origin.clone()
        for _ in range(self.steps):
            point.requires_grad_()
            (slope,) = torch.autograd.grad(cross_entropy(model(point), label, reduction="sum"), point)
            moved = point.detach() + size * slope.sign()
            point = (origin + (moved - origin).clamp(-self.epsilon, self.epsilon)).clamp(0, 1)
        final = point.detach().cpu()
        with torch.no_grad():
            crossed = (model(point).argmax(1) != label).float().mean()
        return Queries(final, {"seeds": seeds, "source": source}, {"crossed": float(crossed)})

    def seeds(self, victim: Oracle, data: Dataset, count: int, generator: torch.Generator) -> Tensor:
        """The pictures ``[count, c, h, w]`` to start from."""
        del victim
        return data.inputs(draw(data, count, generator))


@dataclass(frozen=True, kw_only=True)
class AdversarialPairs(SignGradient):
    """Pairs of a picture and its adversarial example, so a query asks two inputs (QuRD; ModelDiff asks such pairs)."""

    asks: ClassVar[Asked] = "pairs"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n 2 *input", "input"),
        "companions/source": Layout("n", "int64", 0, "k"),
    }

    steps: Count = 10

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Inputs ``[budget, 2, c, h, w]``: the seed, then the adversarial picture."""
        made = super().sample(victim, data, budget=budget, generator=generator)
        inputs = torch.stack([made.companions["seeds"], made.inputs], 1)
        return Queries(inputs, {"source": made.companions["source"]}, made.notes)


@dataclass(frozen=True, kw_only=True)
class NegativeAdversarialPairs(AdversarialPairs):
    """Pairs whose seeds the victim misclassifies (`Negatives`)."""

    part: ClassVar[str] = "queries"

    def seeds(self, victim: Oracle, data: Dataset, count: int, generator: torch.Generator) -> Tensor:
        """Misclassified pictures."""
        return Negatives().sample(victim, data, budget=count, generator=generator).inputs
