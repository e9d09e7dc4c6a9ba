"""What answers are turned into, and how that is compared, one idea a file."""

from whorl.catalog import Catalog
from whorl.representations.base import Comparer, Representer

__all__ = ["REPRESENTATIONS", "SIMILARITIES", "Comparer", "Representer"]

REPRESENTATIONS: Catalog[Representer] = Catalog(
    "representations",
    {
        "ddv": "whorl.representations.decisions:DecisionDistances",
        "hard-ddv": "whorl.representations.decisions:LabelShifts",
        "hard-sac": "whorl.representations.correlations:LabelEqualities",
        "labels": "whorl.representations.labels:Labels",
        "lime": "whorl.representations.lime:LimeWeights",
        "sac": "whorl.representations.correlations:Correlations",
        "scores": "whorl.representations.scores:Scores",
    },
)

SIMILARITIES: Catalog[Comparer] = Catalog(
    "similarities",
    {
        "cosine": "whorl.representations.similarity:Cosine",
        "hamming": "whorl.representations.similarity:Hamming",
        "l1": "whorl.representations.similarity:L1",
        "l2": "whorl.representations.similarity:L2",
        "mutual-information": "whorl.representations.similarity:MutualInformation",
    },
)
