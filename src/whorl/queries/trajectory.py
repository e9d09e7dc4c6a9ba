"""Walks across several boundaries in steps that shrink towards each boundary and grow behind it.

Paper: Xu et al., *United We Stand, Divided We Fall: Fingerprinting Deep Neural Networks via Adversarial Trajectories*,
NeurIPS 2024: fixed-length bilateral trajectories, joined to a surface trajectory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Predicate, doc
from torch import Tensor

from whorl.data.base import Dataset
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.base import Sampler, draw, gradient_of
from whorl.settings import Count, Positive, Share
from whorl.types import Access, Queries

__all__ = ["Trajectory", "walk"]

LARGEST = 1.0  # a longer step leaves the box whatever the pixel


Even = Annotated[int, Ge(2), Predicate(lambda count: count % 2 == 0), doc("an even number from 2 on")]


@dataclass(frozen=True, kw_only=True)
class Trajectory(Sampler):
    """From a picture, cross into one class after another; each crossing takes ``length`` sign steps.

    The first half of the steps of a crossing shrink by ``decay``, the last of them is the first to reach the class
    (length control: one scale for each crossing, found by bracketing), and the second half mirrors the first.

    Parameters:
        length: inputs per crossing, even.
        crossings: how many boundaries a trajectory crosses, into classes not visited before, in random order; at most
            one less than the victim's classes.
        step: size of the first step to try, in units of [0, 1].
        decay: each step towards the boundary is this share of the one before.
        iterations: most scales tried for one crossing.
    """

    needs_victim: ClassVar[Access] = Access.GRADIENTS
    part: ClassVar[str] = "victim"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n path *input", "input"),
        "companions/seeds": Layout("n *input", "input"),
        "companions/source": Layout("n", "int64", 0, "k"),
        "companions/targets": Layout("n crossings", "int64", 0, "k"),
        "companions/controlled": Layout("n crossings", "bool"),
    }

    length: Even = 8
    crossings: Count = 4
    step: Positive = 0.05
    decay: Share = 0.9
    iterations: Count = 20

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Trajectories ``[n, crossings * length, c, h, w]`` with their seeds, target classes and which were met."""
        model = gradient_of(victim)
        seeds = data.inputs(draw(data, budget, generator))
        source = victim.labels(seeds)
        crossings = min(self.crossings, victim.classes - 1)
        order = torch.rand(budget, victim.classes, generator=generator)
        targets = order.scatter(1, source[:, None], torch.inf).argsort(1)[:, :crossings]
        device = getattr(victim, "device", seeds.device)
        point = seeds.to(device).contiguous(memory_format=torch.channels_last)
        path: list[Tensor] = []
        met: list[Tensor] = []
        scales: list[Tensor] = []
        for target in targets.to(device).unbind(1):
            scale, controlled = self._control(model, point, target)
            steps = torch.cat([self._shape(device), self._shape(device).flip(0)])
            points, _ = walk(model, point, target, scale[:, None] * steps)
            point = points[-1]
            path += points
            met.append(controlled)
            scales.append(scale)
        companions = {"seeds": seeds, "source": source, "targets": targets, "controlled": torch.stack(met, 1).cpu()}
        notes = {
            "controlled": float(companions["controlled"].float().mean()),
            "median_step": float(torch.stack(scales).median()),
            "crossings": crossings,
        }
        return Queries(torch.stack(path, 1).cpu(), companions, notes)

    def _shape(self, device: torch.device) -> Tensor:
        return self.decay ** torch.arange(self.length // 2, device=device)

    def _control(self, model: Callable[[Tensor], Tensor], start: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Scale ``[n]`` of the steps at which the last of the first half is the first to reach the target.

        The second value says where there was one. Elsewhere it is the smallest scale found that arrives, though too
        early, or the largest one where none arrives.
        """
        rows = torch.arange(len(start), device=start.device)
        scale = torch.full((len(start),), self.step, device=start.device)
        low, high = torch.zeros_like(scale), torch.full_like(scale, torch.inf)
        controlled = torch.zeros_like(rows, dtype=torch.bool)
        shape = self._shape(start.device)
        for _ in range(self.iterations):
            _, logits = walk(model, start[rows], target[rows], scale[rows, None] * shape)
            arrived = torch.stack([each.argmax(1) for each in logits], 1) == target[rows, None]
            early, late = arrived[:, :-1].any(1), ~arrived.any(1)
            high[rows[early]], low[rows[late]] = scale[rows[early]], scale[rows[late]]
            controlled[rows[~early & ~late]] = True
            rows = rows[(early | late) & (low[rows] < LARGEST)]
            if not len(rows):
                return scale, controlled
            middle = (low + high) / 2
            scale[rows] = torch.where(high.isfinite(), middle, 2 * scale)[rows].clamp_max(LARGEST)
        scale[rows] = torch.where(high.isfinite(), high, scale)[rows]
        return scale, controlled


def walk(
    model: Callable[[Tensor], Tensor], start: Tensor, target: Tensor, steps: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Sign steps towards a class, by the gradient of its logit less the largest other, within the box [0, 1].

    Cross-entropy has the same sign at a boundary, but its gradient vanishes where softmax saturates.

    Shape:
        start: ``[n, c, h, w]``; target: ``[n]``; steps: ``[n, s]``. Returns the s points after each step, and the s
        logits ``[n, classes]`` there.
    """
    column = target[:, None]
    point, points, logits = start.detach(), [], []
    for size in steps.unbind(1):
        asked = point.requires_grad_()
        answer = model(asked)
        lead = answer.gather(1, column).squeeze(1) - answer.scatter(1, column, -torch.inf).amax(1)
        (slope,) = torch.autograd.grad(lead.sum(), asked)
        point = (asked.detach() + size[:, None, None, None] * slope.sign()).clamp_(0, 1)
        points.append(point.clone())
        logits.append(answer.detach())
    with torch.no_grad():
        return points, [*logits[1:], model(point)]
