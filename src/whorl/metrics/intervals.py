"""Confidence intervals of a proportion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from scipy.special import betaincinv  # pyright: ignore[reportMissingTypeStubs]

from whorl.errors import UsageError

__all__ = ["Interval", "clopper_pearson", "normal_quantile", "one_sided_level", "wilson"]


@dataclass(frozen=True)
class Interval:
    """A closed interval; ``value in interval`` works."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Exact interval of a proportion: covers at least ``confidence``, for every n and p.

    Each bound fails with at most ``(1 - confidence) / 2``. No trials, no knowledge: [0, 1].
    Source: Clopper & Pearson, Biometrika 26 (1934).
    """
    _check(successes, trials)
    tail = 1 - one_sided_level(confidence)
    failures = trials - successes
    low = float(betaincinv(successes, failures + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, 1 - tail)) if failures else 1.0
    return Interval(low, high)


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Score interval of a proportion: covers ``confidence`` on average over p, shorter than the exact one.

    Source: Wilson, J. Am. Stat. Assoc. 22 (1927).
    """
    _check(successes, trials)
    if trials == 0:
        return Interval(0.0, 1.0)
    z2 = normal_quantile(confidence) ** 2
    rate = successes / trials
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (rate * (1 - rate) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def one_sided_level(confidence: float) -> float:
    """The level of a one-sided bound of which two make an interval of ``confidence``."""
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence lies between 0 and 1, as in 0.95; this is {confidence}")
    return (1 + confidence) / 2


def normal_quantile(confidence: float) -> float:
    """How many standard deviations a normal interval of ``confidence`` reaches to each side: 1.96 for 0.95."""
    return NormalDist().inv_cdf(one_sided_level(confidence))


def _check(successes: int, trials: int) -> None:
    if not 0 <= successes <= trials:
        raise UsageError(f"successes lie between 0 and the number of trials; these are {successes} of {trials}")
