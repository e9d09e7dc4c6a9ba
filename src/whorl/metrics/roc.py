"""How well a threshold can separate: area under the ROC curve, and the true-positive rate at a false-positive rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from whorl.errors import UsageError
from whorl.metrics.intervals import Interval, clopper_pearson, normal_quantile
from whorl.metrics.scores import Scores, as_scores

__all__ = ["OperatingPoint", "auc", "auc_interval", "tpr_at_fpr"]


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold achieves: a model is flagged when its score is above ``threshold``.

    ``rate`` and ``fpr`` are shares of the positives and negatives flagged, with exact 95 % intervals.
    ``attainable`` is False when fewer than 1/fpr negatives are there: then no false positive at all is allowed,
    and ``fpr_interval`` tells how little that says about the rate that was asked for.
    """

    rate: float
    interval: Interval
    fpr: float
    fpr_interval: Interval
    threshold: float
    attainable: bool


def auc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """Probability that a positive scores above a negative; ties count one half.

    Shape:
        positives: ``[m]``; negatives: ``[n]``. Returns a float in [0, 1].
    """
    return float(_placements(as_scores(positives, "positives"), as_scores(negatives, "negatives")).mean())


def auc_interval(positives: ArrayLike, negatives: ArrayLike, confidence: float = 0.95) -> Interval:
    """Interval of the AUC by DeLong's variance on the logit scale, which keeps coverage near 1.

    Where that variance does not exist (AUC 0 or 1, one model on a side, all scores equal) it falls back to an exact
    bound: among k = min(m, n) disjoint pairs (positive, negative), each is ordered rightly with probability AUC,
    independently. Holds for independent models only: copies of one victim are one cluster, see `over_victims`.

    Source: DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988); placements as in Sun & Xu, IEEE SPL 21 (2014).
    """
    pos, neg = as_scores(positives, "positives"), as_scores(negatives, "negatives")
    above, below = _placements(pos, neg), 1 - _placements(neg, pos)
    area = float(above.mean())
    variance = _variance_of_mean(above) + _variance_of_mean(below)
    if not 0 < area < 1 or not 0 < variance < math.inf:
        return _disjoint_pairs(area, min(len(pos), len(neg)), confidence)
    centre = math.log(area / (1 - area))
    half = normal_quantile(confidence) * math.sqrt(variance) / (area * (1 - area))
    return Interval(_expit(centre - half), _expit(centre + half))


def tpr_at_fpr(positives: ArrayLike, negatives: ArrayLike, fpr: float, confidence: float = 0.95) -> OperatingPoint:
    """True-positive rate at the largest attainable false-positive rate that is at most ``fpr``, without interpolation.

    N negatives attain the rates 0, 1/N, 2/N, ... (fewer with ties). Raises `UsageError` for an ``fpr`` outside [0, 1].
    """
    if not 0 <= fpr <= 1:
        raise UsageError(f"a false-positive rate lies between 0 and 1; this is {fpr}")
    pos, neg = as_scores(positives, "positives"), as_scores(negatives, "negatives")
    allowed = math.floor(fpr * len(neg) + 1e-9)  # 0.29 * 100 must allow 29
    threshold = float(np.sort(neg)[::-1][allowed]) if allowed < len(neg) else -math.inf
    hits, alarms = int((pos > threshold).sum()), int((neg > threshold).sum())
    return OperatingPoint(
        rate=hits / len(pos),
        interval=clopper_pearson(hits, len(pos), confidence),
        fpr=alarms / len(neg),
        fpr_interval=clopper_pearson(alarms, len(neg), confidence),
        threshold=threshold,
        attainable=fpr == 0 or allowed > 0,
    )


def _placements(scores: Scores, others: Scores) -> Scores:
    """For each score the share of ``others`` below it, ties counting one half: ``[m]``, ``[n]`` -> ``[m]``."""
    ordered = np.sort(others)
    below, not_above = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    return (below + not_above) / (2.0 * len(others))


def _variance_of_mean(placements: Scores) -> float:
    return float(placements.var(ddof=1)) / len(placements) if len(placements) > 1 else math.inf


def _disjoint_pairs(area: float, pairs: int, confidence: float) -> Interval:
    # Rounding outwards where the area is no multiple of 1/pairs; the slack keeps 0.3 * 10 from rounding up to 4.
    low = clopper_pearson(math.floor(area * pairs + 1e-9), pairs, confidence).low
    high = clopper_pearson(math.ceil(area * pairs - 1e-9), pairs, confidence).high
    return Interval(low, high)


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
