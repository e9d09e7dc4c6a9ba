"""Probes around points where k classes meet: every probe has k - 1 rivals, so a stranger guesses right 1 time in k.

Papers: Geng et al., *IrisFP: Adversarial-Example-based Model Fingerprinting with Enhanced Uniqueness and Robustness*,
CVPR 2026, arXiv 2603.24996, has the idea of points near the intersection of all boundaries. The geometry: k logits tie
on a set of codimension k - 1, so in the space of pictures, with far more dimensions than classes, such points are the
rule. They are found here by Gauss-Newton steps of least norm, not by IrisFP's descent on a divergence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import one_hot

from whorl.data.base import Dataset
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.base import Sampler, draw, gradient_of
from whorl.queries.descent import at_once, in_blocks
from whorl.settings import Multiple, NonNegative, Positive, Whole
from whorl.types import Access, Queries

__all__ = ["Meeting", "Multipoint", "Solver", "balanced", "least_norm"]

WATCHED = 3  # classes outside the tie that may press on it in one step; the next step sees the next strongest
ROUNDS = 3  # of freezing the pixels that a step would push out of the box


@dataclass(frozen=True)
class Meeting:
    """Where each point ended, how far from its goal, and what that took.

    Shape:
        points: ``[n, c, h, w]`` in [0, 1]; misses: ``[n]`` in logits; forwards, backwards: counts of samples.
    """

    points: Tensor
    misses: Tensor
    forwards: int
    backwards: int


@dataclass(frozen=True)
class Solver:
    """Damped Gauss-Newton: moves points until chosen logits, less a lead each, are equal and above all others.

    Parameters:
        model: inputs to logits, differentiable in the inputs.
        tolerance: largest spread that counts as equal, in logits.
        clearance: how far below the tie the other classes are pushed, in logits.
        iterations: most steps.
        reach: longest step, in L2 over pixels in [0, 1].
    """

    model: Callable[[Tensor], Tensor]
    tolerance: float
    clearance: float
    iterations: int = 200
    reach: float = 1.0

    def __call__(self, start: Tensor, chosen: Tensor, lead: Tensor) -> Meeting:
        """Solve for many points at once; one that arrives leaves the batch, one that does not keeps its best iterate.

        Shape:
            start: ``[n, c, h, w]`` in [0, 1]; chosen: ``[n, k]`` classes; lead: ``[n, k]`` in logits, 0 for a tie.
        """
        passes: list[tuple[int, int]] = []

        def move(place: slice) -> tuple[Tensor, Tensor]:
            met = self._solved(start[place], chosen[place], lead[place])
            passes.append((met.forwards, met.backwards))
            return met.points, met.misses

        slots = chosen.shape[1] + WATCHED  # each point has a slope for each
        points, misses = in_blocks(move, len(start), max(1, at_once(self.model, start) // slots))
        return Meeting(points, misses, *map(sum, zip(*passes, strict=True)))

    def _solved(self, start: Tensor, chosen: Tensor, lead: Tensor) -> Meeting:
        rows = torch.arange(len(start), device=start.device)
        point = start.contiguous(memory_format=torch.channels_last).clone()
        best, misses = point.clone(), torch.full((len(start),), torch.inf, device=start.device)
        forwards = backwards = 0
        for step in range(self.iterations + 1):
            point.requires_grad_()
            logits = self.model(point)
            forwards += len(rows)
            slots, residual, miss = self._residual(logits.detach(), chosen[rows], lead[rows])
            closer = miss < misses[rows]
            best[rows[closer]], misses[rows[closer]] = point.detach()[closer], miss[closer]
            going = miss > self.tolerance
            if step == self.iterations or not going.any():
                break
            slopes = _slopes(logits, slots, point)
            backwards += slopes.shape[0] * slopes.shape[1]
            rows, point = rows[going], point.detach()[going]
            slopes, residual = slopes[going], residual[going]
            ties = chosen.shape[1]
            system = slopes - slopes[:, :ties].mean(1, keepdim=True)
            system[:, ties:] *= (residual[:, ties:] > 0).unsqueeze(2)  # a class that lies low enough is free
            move = least_norm(system, residual, point.flatten(1))
            move *= (self.reach / move.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1)
            point = (point + move.view(point.shape)).clamp_(0, 1)
        return Meeting(best, misses, forwards, backwards)

    def _residual(self, logits: Tensor, chosen: Tensor, lead: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classes ``[b, k + others]``, what is to become zero in each ``[b, k + others]``, and the miss ``[b]``."""
        tied = logits.gather(1, chosen) - lead
        level = tied.mean(1, keepdim=True)
        rest = logits.scatter(1, chosen, -torch.inf)
        others = rest.topk(min(WATCHED, logits.shape[1] - chosen.shape[1])).indices
        excess = (logits.gather(1, others) - level + self.clearance).relu()
        low, high = tied.aminmax(dim=1)
        miss = high - low + (rest.amax(1) - low).relu()
        return torch.cat([chosen, others], 1), torch.cat([tied - level, excess], 1), miss


@dataclass(frozen=True, kw_only=True)
class Multipoint(Sampler):
    """Bring the ``ties`` largest logits of a picture to a tie, then let each of them lead in turn: one probe each.

    Probes that the victim labels otherwise are left out while others remain, and the labels are balanced.

    Parameters:
        ties: k, how many classes meet; all of the victim's where it has fewer.
        margin: gamma, by how much the probe's class leads the others, in logits or (``unit="gap"``) in medians of
            the victim's own gap between its two largest logits. More is more robust and less unique, as in IPGuard.
        tolerance: spread of the logits that counts as a tie, as a share of the margin.
        clearance: how far below the tie other classes are pushed, as a share of the margin.
        iterations: most Gauss-Newton steps to a tie, and from there to each probe.
        reach: longest step, in L2 over pixels in [0, 1].
        candidates: start this many times the pictures that the budget takes, so that probes can be left out.
    """

    needs_victim: ClassVar[Access] = Access.GRADIENTS
    part: ClassVar[str] = "victim"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/target": Layout("n", "int64", 0, "k"),
        "companions/multipoint": Layout("n", "int64", 0),
        "companions/miss": Layout("n", low=0),
        "companions/holds": Layout("n", "bool"),
    }

    ties: Annotated[int, Ge(2)] = 10
    margin: Positive = 1.0
    unit: Literal["logit", "gap"] = "gap"
    tolerance: NonNegative = 0.05
    clearance: NonNegative = 0.25
    iterations: Whole = 200
    reach: Positive = 1.0
    candidates: Multiple = 1.2

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Probes with their label, the number of their multipoint, its distance from a tie, and whether they hold."""
        model, ties = gradient_of(victim), min(self.ties, victim.classes)
        least = ceil(budget / ties)
        seeds = data.inputs(draw(data, max(least, min(len(data), ceil(self.candidates * least))), generator))
        logits = victim.logits(seeds)
        top = logits.topk(2).values
        gap = float((top[:, 0] - top[:, 1]).median())
        margin = self.margin * gap if self.unit == "gap" else self.margin
        device = getattr(victim, "device", seeds.device)
        chosen = logits.topk(ties).indices.to(device)
        solve = Solver(model, self.tolerance * margin, self.clearance * margin, self.iterations, self.reach)
        tie = solve(seeds.to(device), chosen, chosen.new_zeros(chosen.shape, dtype=torch.float32))
        lead = margin * torch.eye(ties, device=device).repeat(len(seeds), 1)
        probe = solve(tie.points.repeat_interleave(ties, 0), chosen.repeat_interleave(ties, 0), lead)
        label, points = chosen.flatten().cpu(), probe.points.cpu()
        met = (tie.misses <= solve.tolerance).cpu()
        holds = (victim.labels(points) == label) & met.repeat_interleave(ties)
        kept = balanced(label, holds)[:budget]
        companions = {
            "target": label[kept],
            "multipoint": kept // ties,
            "miss": tie.misses.cpu()[kept // ties],
            "holds": holds[kept],
        }
        notes = {
            "ties": ties,
            "converged": float(met.float().mean()),
            "held": float(holds[kept].float().mean()),
            "forwards": tie.forwards + probe.forwards,
            "backwards": tie.backwards + probe.backwards,
            "margin_in_logits": margin,
            "median_logit_gap": gap,
        }
        return Queries(points[kept], companions, notes)


def balanced(labels: Tensor, wanted: Tensor) -> Tensor:
    """An order in which labels take turns and the unwanted come last.

    Shape:
        labels: ``[n]`` int64; wanted: ``[n]`` bool. Returns positions ``[n]``: any start of it holds, of each label
        that does not run out, equally many, give or take one.
    """
    turns = one_hot(labels) * wanted[:, None]
    turn = turns.cumsum(0).gather(1, labels[:, None]).squeeze(1)
    return torch.where(wanted, turn, len(labels) + 1).argsort(stable=True)


def least_norm(system: Tensor, residual: Tensor, point: Tensor) -> Tensor:
    """The shortest d with ``system @ d = -residual`` that, to first order, keeps ``point + d`` in the box [0, 1].

    Pixels that would leave the box are held where they are and the rest solved again. Rows may depend on each other;
    where they contradict, d is the least-squares solution. The Gram matrix ``[b, s, s]`` is as small as the classes
    are few, so it is inverted in double precision instead of factorising the system.

    Shape:
        system: ``[b, s, d]``; residual: ``[b, s]``; point: ``[b, d]``. Returns ``[b, d]``.
    """
    move = torch.zeros_like(point)
    free = torch.ones_like(point, dtype=torch.bool)
    for _ in range(ROUNDS):
        rows = (system * free.unsqueeze(1)).double()
        inverse = torch.linalg.pinv(rows @ rows.mT, rtol=1e-9, hermitian=True)
        move = -(rows.mT @ (inverse @ residual.double().unsqueeze(2))).squeeze(2).to(point.dtype)
        stuck = ((point <= 0) & (move < 0)) | ((point >= 1) & (move > 0))
        if not stuck.any():
            break
        free &= ~stuck
    return move


def _slopes(logits: Tensor, slots: Tensor, point: Tensor) -> Tensor:
    """Gradients ``[b, s, d]`` of each point's own classes ``slots`` ``[b, s]``: one backward pass per column."""
    columns = logits.gather(1, slots).sum(0)
    last = len(columns) - 1
    rows = [
        torch.autograd.grad(column, point, retain_graph=number < last)[0].flatten(1)
        for number, column in enumerate(columns)
    ]
    return torch.stack(rows, 1)
