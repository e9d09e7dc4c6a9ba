"""Conferrable adversarial examples: they transfer to models made from the victim and to no others.

Paper: N. Lukas, Y. Zhang, F. Kerschbaum, *Deep Neural Network Fingerprinting by Conferrable Adversarial Examples*,
ICLR 2021, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from whorl.data.base import Dataset
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.oracles.bounded import Bounded
from whorl.oracles.pool import Pool
from whorl.queries.base import PooledSampler, draw, gradient_of
from whorl.queries.descent import Adam, at_once, in_blocks
from whorl.queries.perceptron import refuse_strangers
from whorl.settings import Count, Multiple, NonNegative, Positive, Radius
from whorl.types import Access, Queries

__all__ = ["Conferrable", "Halves", "conferrability", "divide_pool"]

LEAST = 1e-6  # below it the logarithm of a conferrability says nothing and its slope would throw the point away

Net = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Halves:
    """Shadow models to optimise on (``used``) and others to judge by (``held_out``): copies first, then the rest."""

    used: tuple[list[Oracle], list[Oracle]]
    held_out: tuple[list[Oracle], list[Oracle]]


@dataclass(frozen=True, kw_only=True)
class Conferrable(PooledSampler):
    """Adam on the loss of CEM over half of the pool; the other half chooses among the candidates.

    Parameters:
        epsilon: largest change of a pixel, in units of [0, 1].
        learning_rate, iterations: Adam's.
        dropout: share of the shadow models' logits that each step leaves out of the mean.
        conferring, moving, agreeing: alpha, beta and gamma, the weights of being conferrable, of leaving the label of
            the seed, and of surrogates saying what the victim says.
        candidates: start this many times the budget and keep the most conferrable on held-out models.
    """

    needs_victim: ClassVar[Access] = Access.GRADIENTS
    part: ClassVar[str] = "victim"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/seeds": Layout("n *input", "input"),
        "companions/conferrability": Layout("n"),
    }

    epsilon: Radius = 0.1
    learning_rate: Positive = 0.005
    iterations: Count = 40
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.3
    conferring: NonNegative = 1.0
    moving: NonNegative = 1.0
    agreeing: NonNegative = 1.0
    candidates: Multiple = 4.0

    def sample_with(
        self, victim: Oracle, data: Dataset, pool: Pool, *, budget: int, generator: torch.Generator
    ) -> Queries:
        """Conferrable points with their seeds, and how conferrable each is on held-out models (``conferrability``).

        ``notes`` compare the two halves over all candidates, before any was chosen: the gap is what optimising on
        known models gains over models that nobody knows.
        """
        refuse_strangers(victim, pool, "a conferrable example")
        halves = divide_pool(pool, generator)
        seeds = data.inputs(draw(data, max(budget, min(len(data), round(self.candidates * budget))), generator))
        points = self._optimise(victim, seeds, halves.used, generator)
        labels = victim.labels(points)
        seen, unseen = (conferrability(*models, points, labels) for models in (halves.used, halves.held_out))
        crossed = labels != victim.labels(seeds)
        kept = (unseen + crossed).argsort(descending=True, stable=True)[:budget]
        notes: dict[str, Any] = {
            "conferrability_seen": float(seen.mean()),
            "conferrability_held_out": float(unseen.mean()),
            "kept_above": float(unseen[kept].min()),
            "crossed": float(crossed[kept].float().mean()),
            "models_used": [len(models) for models in halves.used],
            "models_held_out": [len(models) for models in halves.held_out],
        }
        return Queries(points[kept], {"seeds": seeds[kept], "conferrability": unseen[kept]}, notes)

    def _optimise(
        self, victim: Oracle, seeds: Tensor, used: tuple[list[Oracle], list[Oracle]], generator: torch.Generator
    ) -> Tensor:
        model = gradient_of(victim)
        nets = [gradient_of(oracle) for oracle in used[0]], [gradient_of(oracle) for oracle in used[1]]
        origin = seeds.to(getattr(victim, "device", seeds.device))

        def move(place: slice) -> tuple[Tensor]:
            return (self._moved(model, nets, origin[place], generator),)

        every = Bounded(lambda points: torch.cat([net(points) for net in (model, *nets[0], *nets[1])], 1))
        (points,) = in_blocks(move, len(origin), at_once(every, origin))
        return points

    def _moved(
        self,
        model: Net,
        nets: tuple[Sequence[Net], Sequence[Net]],
        origin: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        start = model(origin).softmax(1)
        point, adam = origin.clone(), Adam(origin, self.learning_rate)
        for _ in range(self.iterations):
            point.requires_grad_()
            logits = model(point).log_softmax(1)
            surrogate, reference = (self._ensemble(each, point, generator) for each in nets)
            conferring = (surrogate * (1 - reference)).amax(1).clamp_min(LEAST).log()
            leaving = (start * logits).sum(1)
            agreeing = (logits.exp() * surrogate.clamp_min(LEAST).log()).sum(1)
            loss = -self.conferring * conferring + self.moving * leaving - self.agreeing * agreeing
            (slope,) = torch.autograd.grad(loss.sum(), point)
            moved = point.detach() - adam.step(slope)
            point = (origin + (moved - origin).clamp(-self.epsilon, self.epsilon)).clamp(0, 1)
        return point.detach().cpu()

    def _ensemble(self, nets: Sequence[Net], points: Tensor, generator: torch.Generator) -> Tensor:
        """Probabilities ``[n, classes]`` of the mean logits of what dropout leaves (definition 4)."""
        logits = torch.stack([net(points) for net in nets])
        logits = logits - logits.mean(2, keepdim=True)  # so that a dropped logit says nothing and not something
        kept = (torch.rand(logits.shape, generator=generator) >= self.dropout).to(logits.device)
        return (logits * kept / (1 - self.dropout)).mean(0).softmax(1)


def conferrability(copies: Sequence[Oracle], others: Sequence[Oracle], points: Tensor, labels: Tensor) -> Tensor:
    """Share of copies that give the label, times share of other models that do not (definition 3).

    Shape:
        points: ``[n, c, h, w]``; labels: ``[n]``, the victim's. Returns ``[n]`` float32 in [0, 1].
    """
    among, beyond = (
        torch.stack([oracle.labels(points) == labels for oracle in models]).float().mean(0)
        for models in (copies, others)
    )
    return among * (1 - beyond)


def divide_pool(pool: Pool, generator: torch.Generator) -> Halves:
    """Two disjoint halves of the pool, so that both hold every family of two models or more.

    Raises `UsageError` where a half would lack copies or independent models.
    """
    pool.require(2, 2, "conferrable")
    copies, others = _halves(pool.derived.values(), generator), _halves([pool.independent], generator)
    return Halves((copies[0], others[0]), (copies[1], others[1]))


def _halves(families: Iterable[Sequence[Oracle]], generator: torch.Generator) -> tuple[list[Oracle], list[Oracle]]:
    """Deal out the models of each family in random order, one here, one there."""
    order = [
        models[place] for models in families for place in torch.randperm(len(models), generator=generator).tolist()
    ]
    return order[::2], order[1::2]
