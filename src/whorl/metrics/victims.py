"""Means over victims, with intervals that know that copies of one victim resemble each other.

Treating copies as independent is the field's habit and fails: with 6 victims of 30 copies and an intraclass
correlation of one half, DeLong's 95 % interval covers about 37 %. Resampling whole victims fails too where they are
few: of three, the percentile interval covers about 60 %. `benchmarks/intervals.py` measures both ways.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import expit, logit, stdtrit  # pyright: ignore[reportMissingTypeStubs]

from whorl.errors import UsageError
from whorl.metrics.intervals import Interval, normal_quantile, one_sided_level
from whorl.metrics.scores import Scores, as_scores

__all__ = ["FEWEST", "ClusterEstimate", "difference_over_victims", "over_victims"]

FEWEST: Final = 3
"""Victims from which an interval over them says something: that of two spans nearly all of [0, 1]."""

SLACK: Final = 1e-9  # of rounding


@dataclass(frozen=True)
class ClusterEstimate:
    """A figure over several victims, its 95 % interval, and the number of victims that the interval rests on.

    ``extent`` holds the victims' own smallest and largest figures; None where they are not known. An interval over
    fewer than `FEWEST` victims is empty talk: tables show the extent instead (`told`).
    """

    value: float
    interval: Interval
    clusters: int
    extent: Interval | None = None

    @property
    def told(self) -> str:
        """What the two numbers beside the value are: ``interval``, ``range``, or empty where one victim has none."""
        if self.clusters >= FEWEST:
            return "interval"
        return "range" if self.clusters > 1 and self.extent else ""

    @property
    def around(self) -> Interval:
        """The two numbers: the interval, or the range where there is no more to say."""
        return self.extent if self.told == "range" and self.extent else self.interval


def over_victims(values: Sequence[float], trials: Sequence[int], *, confidence: float = 0.95) -> ClusterEstimate:
    """The mean of the victims' figures, and an interval of what it would be over all victims of their kind.

    A t interval over victims on the logit scale. Its half-width holds two terms: t times the standard error over
    victims, and what the models of each victim leave open. The latter keeps figures at 0 and 1, where victims do not
    seem to differ, from looking certain: the mean is shrunk as by half a hit and half a miss.

    Shape:
        values: ``[k]`` in [0, 1], one for each victim, k >= 2.
        trials: ``[k]``, models that each figure rests on: those counted by a share, the smaller side of an AUC.

    Raises:
        UsageError: fewer than two victims, or a figure outside [0, 1].
    """
    figures, models = _checked(values), sum(trials)
    if figures.min() < -SLACK or figures.max() > 1 + SLACK:
        raise UsageError(f"figures over victims lie in [0, 1]; these reach from {figures.min():g} to {figures.max():g}")
    mean = float(figures.mean())
    inner = (mean * models + 0.5) / (models + 1)
    open_ = normal_quantile(confidence) * math.sqrt(inner * (1 - inner) / models)
    half = math.hypot(_t(len(figures), confidence) * _standard_error(figures), open_) / (inner * (1 - inner))
    low, high = (float(expit(logit(inner) + step)) for step in (-half, half))
    extent = Interval(float(figures.min()), float(figures.max()))
    return ClusterEstimate(mean, Interval(min(low, mean), max(high, mean)), len(figures), extent)


def difference_over_victims(
    first: Sequence[float], second: Sequence[float], trials: Sequence[int], *, confidence: float = 0.95
) -> ClusterEstimate:
    """The mean of (second - first) over victims that have both, and its t interval.

    What makes a victim easy or hard cancels. A figure of n models moves in steps of about 1/n, so that few victims may
    happen to move by the very same step: the variance of rounding to it, 1/(12 n^2), is added.

    Shape:
        first, second: ``[k]`` in one order of victims, k >= 2; trials: ``[k]`` as in `over_victims`.

    Raises:
        UsageError: fewer than two victims, or other victims on one side.
    """
    if len(first) != len(second):
        raise UsageError(
            f"a paired comparison needs the same victims on both sides; {len(first)} and {len(second)} given"
        )
    changes = _checked(np.subtract(second, first).tolist())
    mean, steps = float(changes.mean()), 1 / np.asarray(trials, dtype=float)
    moved = bool(np.abs(changes).max() > SLACK)  # where nothing moved at all, there is nothing to round
    rounding = float((steps**2).mean()) / (12 * len(changes)) if moved else 0.0
    half = _t(len(changes), confidence) * math.sqrt(_standard_error(changes) ** 2 + rounding)
    extent = Interval(float(changes.min()), float(changes.max()))
    return ClusterEstimate(mean, Interval(mean - half, mean + half), len(changes), extent)


def _checked(values: Sequence[float]) -> Scores:
    if len(values) < 2:
        raise UsageError(
            f"an interval over victims needs at least 2 to see how they differ; {len(values)} given. "
            "Add victims, or report the value without an interval"
        )
    return as_scores(values, "figures of victims")


def _standard_error(values: Scores) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _t(victims: int, confidence: float) -> float:
    return float(stdtrit(victims - 1, one_sided_level(confidence)))
