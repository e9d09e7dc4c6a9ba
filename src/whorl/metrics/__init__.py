"""Pure functions on arrays of scores: how well do scores separate derived from independent models?

``positives`` are the scores of derived models, ``negatives`` those of independent ones; larger is more alike.
"""

from whorl.metrics.aruc import RobustnessUniqueness, aruc, robustness_uniqueness_curve
from whorl.metrics.intervals import Interval, clopper_pearson, wilson
from whorl.metrics.roc import OperatingPoint, auc, auc_interval, tpr_at_fpr
from whorl.metrics.rounding import rounded
from whorl.metrics.scores import Scores, as_scores
from whorl.metrics.victims import FEWEST, ClusterEstimate, difference_over_victims, over_victims

__all__ = [
    "FEWEST",
    "ClusterEstimate",
    "Interval",
    "OperatingPoint",
    "RobustnessUniqueness",
    "Scores",
    "aruc",
    "as_scores",
    "auc",
    "auc_interval",
    "clopper_pearson",
    "difference_over_victims",
    "over_victims",
    "robustness_uniqueness_curve",
    "rounded",
    "tpr_at_fpr",
    "wilson",
]
