"""Untargeted sign-gradient adversarial examples.

Papers: Goodfellow et al., ICLR 2015 (FGSM); Kurakin et al., ICLR 2017 workshop (IGSM, also called BIM). IPGuard
compares against both; its step sizes are not published, so they are settings here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset
from whorl.oracles.base import Oracle
from whorl.queries.base import Sampler, draw, gradient_of
from whorl.types import Access, Queries

__all__ = ["SignGradient"]


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

    epsilon: float = 0.06
    steps: int = 1
    step: float = 0.0

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Adversarial pictures with their seeds."""
        model = gradient_of(victim)
        seeds = data.inputs(draw(data, budget, generator))
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
