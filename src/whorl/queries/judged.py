"""DeepJudge's black-box tests: adversarial examples of the held-out pictures that the victim is surest of.

Paper: Chen et al., *Copy, Right?*, IEEE S&P 2022, arXiv 2112.05588, section on test case generation; settings after
the command line of the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.base import Sampler, gradient_of
from whorl.settings import Count, Radius
from whorl.types import Access, Queries

__all__ = ["Judged", "JudgedTests"]


@dataclass(frozen=True, kw_only=True)
class JudgedTests:
    """How the tests are made; `Judged` samples them, and schemes that also learn from a pool call ``tests``.

    Parameters:
        seeds: how many of the most certain correctly classified pictures (by sum of squared probabilities) are
            candidates; the tests come from random ones of them.
        epsilon: largest change of a pixel, in units of [0, 1].
        steps: 1 is FGSM; more is PGD, which starts at a random point of the epsilon-ball.
        step: size of one step of PGD; FGSM takes epsilon.
    """

    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/truth": Layout("n", "int64", 0, "k"),
        "companions/seeds": Layout("n *input", "input"),
    }

    seeds: Count = 1000
    epsilon: Radius = 0.05
    steps: Count = 10
    step: Radius = 0.01

    def tests(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Tests that fool the victim, with their ``truth`` and ``seeds``.

        Raises:
            UsageError: fewer than ``budget`` candidates can be made to fool it.
        """
        model = gradient_of(victim)
        images = data.inputs()
        probabilities = victim.probabilities(images)
        right = (probabilities.argmax(1) == data.labels).nonzero().flatten()
        certainty = probabilities[right].square().sum(1)
        candidates = right[certainty.argsort(descending=True, stable=True)[: self.seeds]]
        order = candidates[torch.randperm(len(candidates), generator=generator)]
        points, chosen = images[:0], order[:0]
        tried = 0
        for block in order.split(max(budget, 64)):
            attacked = self._attack(victim, model, images[block], data.labels[block], generator)
            fooled = victim.labels(attacked) != data.labels[block]
            points, chosen = torch.cat([points, attacked[fooled]]), torch.cat([chosen, block[fooled]])
            tried += len(block)
            if len(points) >= budget:
                break
        if len(points) < budget:
            raise UsageError(
                f"{len(points)} of {tried} pictures could be made to fool {victim.name} and {budget} are asked for; "
                "give more labelled pictures, a larger epsilon or a smaller budget"
            )
        companions = {"truth": data.labels[chosen[:budget]], "seeds": images[chosen[:budget]]}
        return Queries(points[:budget], companions, {"tried": tried, "fooled": len(points)})

    def _attack(
        self,
        victim: Oracle,
        model: Callable[[Tensor], Tensor],
        seeds: Tensor,
        truth: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Raise the cross-entropy of the true class within the ball and the box."""
        device = getattr(victim, "device", seeds.device)
        start = torch.rand(seeds.shape, generator=generator) * 2 - 1 if self.steps > 1 else torch.zeros_like(seeds)
        origin, label = seeds.to(device), truth.to(device)
        point = (origin + self.epsilon * start.to(device)).clamp(0, 1)
        size = self.step if self.steps > 1 else self.epsilon
        for _ in range(self.steps):
            point.requires_grad_()
            (slope,) = torch.autograd.grad(cross_entropy(model(point), label, reduction="sum"), point)
            moved = point.detach() + size * slope.sign()
            point = (origin + (moved - origin).clamp(-self.epsilon, self.epsilon)).clamp(0, 1)
        return point.detach().cpu()


@dataclass(frozen=True, kw_only=True)
class Judged(JudgedTests, Sampler):
    """Adversarial tests of the most certain pictures, all of which the victim gets wrong."""

    needs_victim: ClassVar[Access] = Access.GRADIENTS

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """The tests; the companion ``truth`` holds the right classes."""
        return self.tests(victim, data, budget=budget, generator=generator)
