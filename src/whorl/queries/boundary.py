"""Points just across the boundary between a source class and a target class: IPGuard's queries.

Paper: Cao, Jia, Gong, *IPGuard: Protecting Intellectual Property of Deep Neural Networks via Fingerprinting the
Classification Boundary*, AsiaCCS 2021, equation 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.base import Sampler, Target, choose_target, draw, gradient_of
from whorl.queries.descent import at_once, descend
from whorl.settings import Count, Multiple, NonNegative, Positive, Whole
from whorl.types import Access, Queries

__all__ = ["Boundary", "boundary_loss"]


@dataclass(frozen=True, kw_only=True)
class Boundary(Sampler):
    """Move pictures across the boundary until the target leads by ``margin`` and the source class comes second.

    Parameters:
        margin: k in equation 3, the distance from the boundary, in logits or (``unit="gap"``) in medians of the
            victim's own gap between its two largest logits, which makes k comparable between victims.
        start: pictures of the data (``natural``) or uniform noise (``noise``).
        target: the victim's ``least-likely`` class, or a ``random`` one; never the source class.
        learning_rate, iterations: Adam's, in units of [0, 1] pixels.
        patience: give a picture up after this many steps without a better loss; 0 never, as in the paper.
        candidates: start this many times the budget and keep the first that arrive; 1 as in the paper. More is
            faster, and the easy points that it keeps transfer slightly more.
    """

    needs_victim: ClassVar[Access] = Access.GRADIENTS
    part: ClassVar[str] = "victim"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/seeds": Layout("n *input", "input"),
        "companions/source": Layout("n", "int64", 0, "k"),
        "companions/target": Layout("n", "int64", 0, "k"),
        "companions/loss": Layout("n", low=0),
    }

    margin: NonNegative = 5.0
    unit: Literal["logit", "gap"] = "logit"
    start: Literal["natural", "noise"] = "natural"
    target: Target = "least-likely"
    learning_rate: Positive = 0.001
    iterations: Count = 1000
    patience: Whole = 0
    candidates: Multiple = 1.0

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Boundary points with their seeds, source and target classes, and whether they converged."""
        model = gradient_of(victim)
        count = max(budget, round(self.candidates * budget))
        start = self._start(victim, data, count, generator)
        seeds = start.inputs()
        logits = victim.logits(seeds)
        source = logits.argmax(1)
        target = choose_target(self.target, logits, generator)
        top = logits.topk(2).values
        gap = float((top[:, 0] - top[:, 1]).median())
        margin = self.margin * gap if self.unit == "gap" else self.margin
        device = getattr(victim, "device", seeds.device)
        near, far = source.to(device), target.to(device)
        end = descend(
            seeds.to(device),
            lambda points, rows: boundary_loss(model(points), near[rows], far[rows], margin),
            learning_rate=self.learning_rate,
            iterations=self.iterations,
            patience=self.patience,
            enough=budget if count > budget else 0,
            most=at_once(model, seeds),
        )
        del seeds  # large pictures are held twice at most
        kept = end.losses.argsort(stable=True)[:budget].cpu()
        losses, passes, points = end.losses.cpu()[kept], int(end.passes.sum()), end.points.cpu()[kept]
        del end
        companions = {
            "seeds": start.inputs(kept),
            "source": source[kept],
            "target": target[kept],
            "loss": losses,
        }
        notes = {
            "converged": float((losses == 0).float().mean()),
            "passes": passes,
            "margin_in_logits": margin,
            "median_logit_gap": gap,
        }
        return Queries(points, companions, notes)

    def _start(self, victim: Oracle, data: Dataset, count: int, generator: torch.Generator) -> Dataset:
        if self.start == "natural":
            return data.subset(draw(data, count, generator))
        noise = torch.rand(count, *victim.input_shape, generator=generator)
        return Dataset(noise, torch.zeros(count, dtype=torch.int64), data.classes, domain=victim.space)


def boundary_loss(logits: Tensor, source: Tensor, target: Tensor, margin: float) -> Tensor:
    """Equation 3 of IPGuard: ReLU(Z_i - Z_j + k) + ReLU(max_{t not i, j} Z_t - Z_i).

    Zero exactly where the target j leads the source i by k or more and i leads all others.

    Shape:
        logits: ``[n, classes]``; source, target: ``[n]``. Returns ``[n]``.
    """
    pair = torch.stack([source, target], 1)
    near, far = logits.gather(1, pair).unbind(1)
    others = logits.scatter(1, pair, -torch.inf).amax(1)
    return (near - far + margin).relu() + (others - near).relu()
