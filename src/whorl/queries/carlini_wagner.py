"""Targeted Carlini-Wagner L2 examples: the smallest change that reaches the target with a given confidence.

Paper: Carlini & Wagner, S&P 2017, section VI.A: minimise |x' - x|^2 + c f(x') over w with x' = (tanh w + 1) / 2,
and search for the smallest c that succeeds. IPGuard uses it as the strong and slow baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.base import Sampler, Target, choose_target, draw, gradient_of
from whorl.queries.descent import Adam, at_once, in_blocks
from whorl.settings import Count, NonNegative, Positive
from whorl.types import Access, Queries

__all__ = ["CarliniWagner"]


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(Sampler):
    """The paper's attack with confidence ``margin`` (its kappa; IPGuard's k), targeted like IPGuard.

    Parameters:
        margin: how far the target must lead all other classes, in logits.
        target: as in IPGuard.
        searches: rounds of binary search over c.
        iterations: Adam steps per round.
        learning_rate: Adam's, on w.
        initial: c of the first round.
    """

    needs_victim: ClassVar[Access] = Access.GRADIENTS
    part: ClassVar[str] = "victim"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/seeds": Layout("n *input", "input"),
        "companions/source": Layout("n", "int64", 0, "k"),
        "companions/target": Layout("n", "int64", 0, "k"),
        "companions/squared_distance": Layout("n", low=-1),
    }

    margin: NonNegative = 5.0
    target: Target = "least-likely"
    searches: Count = 9
    iterations: Count = 1000
    learning_rate: Positive = 0.01
    initial: Positive = 0.01

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """The closest successful points; where none succeeded the seed itself, marked as not converged."""
        model = gradient_of(victim)
        seeds = data.inputs(draw(data, budget, generator))
        logits = victim.logits(seeds)
        source = logits.argmax(1)
        target = choose_target(self.target, logits, generator)
        device = getattr(victim, "device", seeds.device)
        origin, goal = seeds.to(device), target.to(device)
        points, distances = in_blocks(
            lambda place: self._search(model, origin[place], goal[place]), len(origin), at_once(model, origin)
        )
        found = distances.isfinite().cpu()
        companions = {"seeds": seeds, "source": source, "target": target, "squared_distance": distances.cpu()}
        companions["squared_distance"] = companions["squared_distance"].nan_to_num(posinf=-1.0)
        return Queries(points.cpu(), companions, {"converged": float(found.float().mean())})

    def _search(self, model: Callable[[Tensor], Tensor], seeds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Binary search over c per picture; returns best points and their squared distances (inf if none)."""
        best = seeds.clone()
        distance = seeds.new_full((len(seeds),), torch.inf)
        low, high = torch.zeros_like(distance), torch.full_like(distance, torch.inf)
        weight = torch.full_like(distance, self.initial)
        for _ in range(self.searches):
            points, lengths = self._round(model, seeds, target, weight)
            closer = lengths < distance
            best[closer], distance[closer] = points[closer], lengths[closer]
            success = lengths.isfinite()
            high = torch.where(success, torch.minimum(high, weight), high)
            low = torch.where(success, low, torch.maximum(low, weight))
            weight = torch.where(high.isfinite(), (low + high) / 2, weight * 10)
        return best, distance

    def _round(
        self, model: Callable[[Tensor], Tensor], seeds: Tensor, target: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One optimisation at fixed c: the closest successful point of each picture, inf where none."""
        hidden = torch.atanh((2 * seeds - 1) * 0.999999)  # tanh reaches the edges of the box only at infinity
        adam = Adam(hidden, self.learning_rate)
        best = seeds.clone()
        distance = seeds.new_full((len(seeds),), torch.inf)
        for _ in range(self.iterations):
            hidden.requires_grad_()
            points = (hidden.tanh() + 1) / 2
            logits = model(points)
            wanted = logits.gather(1, target[:, None]).squeeze(1)
            others = logits.scatter(1, target[:, None], -torch.inf).amax(1)
            shortfall = (others - wanted + self.margin).relu()
            squared = (points - seeds).square().sum((1, 2, 3))
            (slope,) = torch.autograd.grad((squared + weight * shortfall).sum(), hidden)
            closer = (shortfall == 0) & (squared < distance)
            best[closer], distance[closer] = points.detach()[closer], squared.detach()[closer]
            hidden = hidden.detach() - adam.step(slope)
        return best, distance
