"""Pairs of a picture and a near one that the victim sees quite differently: ModelDiff's queries.

Paper: Li, Zhang, Liu, Yang, Liu, *ModelDiff: Testing-Based DNN Similarity Comparison for Model Reuse Detection*,
ISSTA 2021, section on the generation of test inputs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.base import Sampler, draw, gradient_of
from whorl.settings import Count, NonNegative, Radius, Whole
from whorl.types import Access, Queries

__all__ = ["DivergentPairs", "GradientPairs", "MutatedPairs", "spread"]


class DivergentPairs(Sampler):
    """Natural pictures, each with a partner. An author writes ``partners``."""

    part: ClassVar[str] = "victim"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n 2 *input", "input"),
    }

    @abstractmethod
    def partners(self, victim: Oracle, seeds: Tensor, generator: torch.Generator) -> Tensor:
        """A picture in [0, 1] near each seed: ``[n, c, h, w]`` to the same shape."""

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Pairs ``[n, 2, c, h, w]`` of seed and partner; notes say how far apart the victim's scores ended."""
        before = victim.queries_spent
        seeds = data.inputs(draw(data, budget, generator))
        partners = self.partners(victim, seeds, generator)
        asked = victim.queries_spent - before
        divergence, diversity = spread(victim.scores(partners), victim.scores(seeds))
        notes = {"divergence": float(divergence.mean()), "diversity": float(diversity.mean()), "asked_of_victim": asked}
        return Queries(torch.stack([seeds, partners], 1), notes=notes)


@dataclass(frozen=True, kw_only=True)
class GradientPairs(DivergentPairs):
    """Projected gradient ascent of divergence from the seed plus diversity among partners, all pairs in one batch.

    Parameters:
        epsilon: largest change of a pixel, in units of [0, 1].
        step: size of one sign step.
        iterations: number of steps, from a random point of the box.
        diversity: weight of a partner's mean distance to the other partners, beside its distance to its seed.
            More of it moves partners apart from each other instead, and the pairs tell models apart less.
    """

    needs_victim: ClassVar[Access] = Access.GRADIENTS

    epsilon: Radius = 0.1
    step: Radius = 0.01
    iterations: Count = 50
    diversity: NonNegative = 0.1

    def partners(self, victim: Oracle, seeds: Tensor, generator: torch.Generator) -> Tensor:
        """The last point of each ascent."""
        scores = _scores(gradient_of(victim), victim)
        start = (2 * torch.rand(seeds.shape, generator=generator) - 1) * self.epsilon
        origin = seeds.to(getattr(victim, "device", seeds.device))
        point = (origin + start.to(origin)).clamp(0, 1)
        with torch.no_grad():
            home = scores(origin)
        for _ in range(self.iterations):
            point.requires_grad_()
            divergence, diversity = spread(scores(point), home)
            gain = (divergence + self.diversity * diversity).sum()
            (slope,) = torch.autograd.grad(gain, point)
            moved = point.detach() + self.step * slope.sign()
            point = (origin + (moved - origin).clamp(-self.epsilon, self.epsilon)).clamp(0, 1)
        return point.detach().cpu()


@dataclass(frozen=True, kw_only=True)
class MutatedPairs(DivergentPairs):
    """Hill climbing on divergence times diversity by changes of one pixel, from the victim's scores only.

    In each round every pair tries one random pixel both ways, and keeps the better way if it is better than before.

    Parameters:
        epsilon: change of a pixel in one mutation, in units of [0, 1]; mutations add up within [0, 1].
        iterations: number of rounds, each of two queries to the victim per pair.
    """

    needs_victim: ClassVar[Access] = Access.PROBABILITIES

    epsilon: Radius = 0.2
    iterations: Whole = 100

    def partners(self, victim: Oracle, seeds: Tensor, generator: torch.Generator) -> Tensor:
        """The best point of each climb."""
        count, pixels = len(seeds), seeds[0].numel()
        home = victim.scores(seeds)
        best, outputs, fitness = seeds.flatten(1), home, home.new_zeros(count)
        rows = torch.arange(count)
        for _ in range(self.iterations):
            chosen = torch.randint(pixels, (count,), generator=generator)
            tries = best.repeat(2, 1, 1)
            tries[0, rows, chosen] += self.epsilon
            tries[1, rows, chosen] -= self.epsilon
            tries.clamp_(0, 1)
            answers = victim.scores(tries.view(2 * count, *seeds.shape[1:])).view(2, count, -1)
            # Partners move at the same time, so each is judged beside the others as they stood before the round.
            gains = torch.stack([_product(answer, home, outputs) for answer in answers])
            value, way = gains.max(0)
            better = value > fitness
            best = torch.where(better[:, None], tries[way, rows], best)
            outputs = torch.where(better[:, None], answers[way, rows], outputs)
            fitness = torch.where(better, value, _product(outputs, home, outputs))
        return best.view(seeds.shape)


def spread(outputs: Tensor, home: Tensor, others: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """How far each output is from its seed's, and on average from those of the other partners.

    Shape:
        outputs, home: ``[n, d]``; others: ``[n, d]``, the outputs themselves by default. Returns two ``[n]``.
    """
    others = outputs if others is None else others
    apart = torch.cdist(outputs, others)
    count = max(len(outputs) - 1, 1)
    return (outputs - home).norm(dim=1), (apart.sum(1) - apart.diagonal()) / count


def _product(outputs: Tensor, home: Tensor, others: Tensor) -> Tensor:
    divergence, diversity = spread(outputs, home, others)
    return divergence * diversity if len(outputs) > 1 else divergence


def _scores(logits: Callable[[Tensor], Tensor], victim: Oracle) -> Callable[[Tensor], Tensor]:
    """What `Oracle.scores` answers, differentiable."""
    if victim.task != "classification":
        return logits

    def centred(inputs: Tensor) -> Tensor:
        outputs = logits(inputs)
        return outputs - outputs.mean(1, keepdim=True)

    return centred
