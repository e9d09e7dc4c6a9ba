"""The two figures of every table: a mean over victims, and how many of how many, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from whorl.metrics import ClusterEstimate, Interval, Scores, auc, auc_interval, clopper_pearson, over_victims

__all__ = ["Share", "Sides", "by_victim", "mean_over_victims", "share_of"]

Sides = tuple[Sequence[float], Sequence[float]]
"""Similarities of copies, and of independent models, to one victim."""


@dataclass(frozen=True)
class Share:
    """``hits`` of ``count``, with a 95 % interval: over victims, or of one victim alone that of Clopper and Pearson.

    ``clusters`` and ``extent`` are those of a `ClusterEstimate`.
    """

    hits: int
    count: int
    interval: Interval
    clusters: int
    extent: Interval | None = None

    @property
    def estimate(self) -> ClusterEstimate:
        """The share as a figure; of at least one."""
        return ClusterEstimate(self.hits / self.count, self.interval, self.clusters, self.extent)


def share_of(outcomes: Iterable[tuple[int, bool]]) -> Share:
    """How many are true, from (victim, outcome): verdicts on one victim come together, since they share its null."""
    by: dict[int, list[bool]] = {}
    for victim, outcome in outcomes:
        by.setdefault(victim, []).append(outcome)
    hits, count = sum(map(sum, by.values())), sum(map(len, by.values()))
    if len(by) < 2:
        return Share(hits, count, clopper_pearson(hits, count), len(by))
    of = over_victims([float(np.mean(each)) for each in by.values()], [len(each) for each in by.values()])
    low, high = min(of.interval.low, hits / count), max(of.interval.high, hits / count)
    return Share(hits, count, Interval(low, high), len(by), of.extent)


def by_victim(positives: Iterable[tuple[int, float]], negatives: Iterable[tuple[int, float]]) -> list[Sides]:
    """Scores by victim, from (victim, score); a victim that lacks a side says nothing and is left out."""
    sides: dict[int, tuple[list[float], list[float]]] = {}
    for side, scores in enumerate((positives, negatives)):
        for victim, score in scores:
            sides.setdefault(victim, ([], []))[side].append(score)
    return [sides[victim] for victim in sorted(sides) if all(sides[victim])]


def mean_over_victims(statistic: Callable[[Scores, Scores], float], clusters: Sequence[Sides]) -> ClusterEstimate:
    """The mean over victims of a statistic in [0, 1]; one victim alone has DeLong's interval of its AUC, or none.

    At least one cluster.
    """
    values = [statistic(np.asarray(above), np.asarray(below)) for above, below in clusters]
    if len(values) > 1:
        return over_victims(values, [min(len(above), len(below)) for above, below in clusters])
    interval = auc_interval(*clusters[0]) if statistic is auc else Interval(0.0, 1.0)
    return ClusterEstimate(values[0], interval, 1)
