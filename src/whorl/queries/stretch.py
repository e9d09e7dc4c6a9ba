"""Points past the victim's boundary, each by a stretch of its own between a robustness and a uniqueness bound.

Paper: Yang, Geng, Chen, Luo, *Fingerprinting DNNs for Ownership Protection: An Analytical Approach*, ICLR 2026,
arXiv 2603.21411 (AnaFP).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.oracles.pool import Pool
from whorl.queries.base import PooledSampler, draw, gradient_of
from whorl.queries.deepfool import CROSS, Crossing, deepfool
from whorl.settings import Count, Multiple, NonNegative, Probability
from whorl.types import Access, Queries

__all__ = ["Constants", "StretchedPoints", "measure"]

LEVELS = 500
LEAST = 1e-6


@dataclass(frozen=True)
class Constants:
    """What shadow models do near each picture; their quantiles over models are the constants of the two bounds.

    Shape:
        lengths: ``[n]``, |delta|, L2 norm of the minimal change.
        growth: ``[n]``, c_g, how fast the victim's new class gains on the old one past the boundary, per unit of L2.
        shifts: ``[copies, n]``, eps_logit, the largest change of a logit from victim to copy, at the boundary.
        margins: ``[independents, n]``, m_min, by how many logits the picture's class leads there.
        slopes: ``[independents, n]``, L, the fastest change of a logit on the way to the boundary, per unit of L2.
    """

    lengths: Tensor
    growth: Tensor
    shifts: Tensor
    margins: Tensor
    slopes: Tensor

    def lower(self, level: float) -> Tensor:
        """tau_low = 1 + 2 eps / (c_g |delta|), ``[n]``: less could be undone by a share ``level`` of the copies."""
        return 1 + 2 * self.shifts.quantile(level, dim=0) / (self.growth * self.lengths).clamp_min(LEAST)

    def upper(self, level: float) -> Tensor:
        """tau_up = m_min / (2 L |delta|), ``[n]``: more could take a share 1 - ``level`` of independents across.

        0 where an independent model gives the picture itself another class.
        """
        margin, slope = self.margins.quantile(1 - level, dim=0).clamp_min(0), self.slopes.quantile(level, dim=0)
        return margin / (2 * slope * self.lengths).clamp_min(LEAST)


def measure(victim: Oracle, pool: Pool, end: Crossing) -> Constants:
    """Ask every shadow model about the pictures and about the points where the victim changes its mind."""
    start, edge, past = (points.cpu() for points in (end.inputs, end.points(CROSS), end.points(1.0)))
    old, new = end.source.cpu()[:, None], end.target.cpu()[:, None]
    lengths = (edge - start).flatten(1).norm(dim=1)
    at_edge, beyond = victim.scores(edge), victim.scores(past)
    gained = (beyond - at_edge).gather(1, new) - (beyond - at_edge).gather(1, old)
    growth = gained.squeeze(1) / (past - edge).flatten(1).norm(dim=1).clamp_min(LEAST)
    shifts = torch.stack([(copy.scores(edge) - at_edge).abs().amax(1) for copy in pool.copies])
    margins, slopes = [], []
    for model in pool.independent:
        scores = model.scores(start)
        others = scores.scatter(1, old, -torch.inf).amax(1)
        margins.append(scores.gather(1, old).squeeze(1) - others)
        slopes.append((model.scores(edge) - scores).abs().amax(1) / lengths.clamp_min(LEAST))
    return Constants(lengths, growth, shifts, torch.stack(margins), torch.stack(slopes))


@dataclass(frozen=True, kw_only=True)
class StretchedPoints(PooledSampler):
    """x + tau delta, with delta the minimal change and tau between the bounds of each picture.

    Parameters:
        margin: least lead of the victim's class at an anchor, in medians of the victim's own gap between its two
            largest logits.
        uniqueness: quantile over independent shadow models that the upper bound holds for; 1 is all of them.
        candidates: pictures to choose among, as a multiple of the budget.
        iterations: most steps of DeepFool.
    """

    needs_victim: ClassVar[Access] = Access.GRADIENTS
    part: ClassVar[str] = "victim"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/seeds": Layout("n *input", "input"),
        "companions/source": Layout("n", "int64", 0, "k"),
        "companions/target": Layout("n", "int64", 0, "k"),
        "companions/stretch": Layout("n", low=0),
        "companions/lower": Layout("n", low=0),
        "companions/upper": Layout("n", low=0),
    }

    margin: NonNegative = 0.5
    uniqueness: Probability = 1.0
    candidates: Multiple = 8.0
    iterations: Count = 50

    def sample_with(
        self, victim: Oracle, data: Dataset, pool: Pool, *, budget: int, generator: torch.Generator
    ) -> Queries:
        """The points with their seeds, both classes and both bounds."""
        pool.require(1, 1, "stretch")
        anchors = self._anchors(victim, data, budget, generator)
        device = getattr(victim, "device", anchors.device)
        end = deepfool(gradient_of(victim), anchors.to(device), iterations=self.iterations)
        constants = measure(victim, pool, end)
        upper = constants.upper(self.uniqueness)
        kept, lower, level = self._choose(constants, upper, end.crossed.cpu(), budget)
        # Where the bounds cross, uniqueness wins, as far as there is anything past the boundary.
        stretch = torch.where(lower <= upper, (lower + upper) / 2, upper.clamp_min(1 + CROSS))
        points = end.points((stretch.to(device) - 1)[:, None, None, None]).cpu()
        companions = {
            "seeds": anchors[kept],
            "source": end.source.cpu()[kept],
            "target": end.target.cpu()[kept],
            "stretch": stretch[kept],
            "lower": lower[kept],
            "upper": upper[kept],
        }
        notes = {
            "feasible": float((lower <= upper)[kept].float().mean()),
            "robustness": level,
            "passes": int(end.passes.sum()),
        }
        return Queries(points[kept], companions, notes)

    def _anchors(self, victim: Oracle, data: Dataset, budget: int, generator: torch.Generator) -> Tensor:
        count = max(budget, min(len(data), round(self.candidates * budget)))
        seeds = data.inputs(draw(data, count, generator))
        top = victim.logits(seeds).topk(2).values
        gaps = top[:, 0] - top[:, 1]
        anchors = seeds[gaps >= self.margin * gaps.median()]
        if len(anchors) < budget:
            raise UsageError(
                f"{len(anchors)} of {count} pictures lead by {self.margin:g} median gaps and {budget} are needed; "
                "lower margin, give more pictures or ask for fewer queries"
            )
        return anchors

    def _choose(
        self, constants: Constants, upper: Tensor, crossed: Tensor, budget: int
    ) -> tuple[Tensor, Tensor, float]:
        """Positions ``[budget]``, lower bounds, and the highest quantile over copies at which enough are feasible."""
        level, lower = 1.0, upper
        for level in torch.linspace(1, 0, LEVELS).tolist():
            lower = constants.lower(level)
            if int((crossed & (lower <= upper)).sum()) >= budget:
                break
        room = torch.where(crossed, upper / lower, -torch.inf)
        return room.argsort(descending=True, stable=True)[:budget], lower, level
