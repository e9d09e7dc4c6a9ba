"""Robustness and uniqueness against the threshold, and the area under the smaller of the two.

Source: Cao, Jia & Gong, *IPGuard*, AsiaCCS 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from whorl.errors import UsageError
from whorl.metrics.scores import Scores, as_scores

__all__ = ["RobustnessUniqueness", "aruc", "robustness_uniqueness_curve"]


@dataclass(frozen=True)
class RobustnessUniqueness:
    """Both step functions of the threshold t, exactly.

    Shape:
        thresholds, robustness, uniqueness: ``[k]``; thresholds ascend from 0 to 1 and hold every distinct score.

    Both functions are constant on each (thresholds[i-1], thresholds[i]] with the values at its right end: plot them
    as steps that hold back from the right (matplotlib: ``where="pre"``).
    """

    thresholds: Scores
    robustness: Scores
    uniqueness: Scores

    @property
    def aruc(self) -> float:
        """Integral over t in [0, 1] of the smaller of the two."""
        heights = np.minimum(self.robustness, self.uniqueness)[1:]
        return float(np.diff(self.thresholds) @ heights)


def robustness_uniqueness_curve(positives: ArrayLike, negatives: ArrayLike) -> RobustnessUniqueness:
    """R(t) = share of positives >= t and U(t) = share of negatives < t, at every t where either changes.

    Shape:
        positives: ``[m]`` in [0, 1]; negatives: ``[n]`` in [0, 1].

    Raises:
        UsageError: a score outside [0, 1]: the area would depend on an arbitrary scale.
    """
    pos, neg = _in_unit(positives, "positives"), _in_unit(negatives, "negatives")
    thresholds = np.unique(np.concatenate([[0.0, 1.0], pos, neg]))
    return RobustnessUniqueness(thresholds, 1 - _share_below(thresholds, pos), _share_below(thresholds, neg))


def aruc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """Exact ARUC in [0, 1]; 1 needs every positive at 1 and every negative at 0.

    It rewards the margin and changes when scores are rescaled, unlike the AUC: report both. Over several victims,
    average the victims' values.
    """
    return robustness_uniqueness_curve(positives, negatives).aruc


def _share_below(thresholds: Scores, scores: Scores) -> Scores:
    return np.searchsorted(np.sort(scores), thresholds, side="left") / float(len(scores))


def _in_unit(values: ArrayLike, name: str) -> Scores:
    scores = as_scores(values, name)
    if scores.min() < 0 or scores.max() > 1:
        raise UsageError(
            f"ARUC needs scores in [0, 1]; the {name} reach from {scores.min():g} to {scores.max():g}. "
            "Use the AUC, or a similarity with a fixed scale"
        )
    return scores
