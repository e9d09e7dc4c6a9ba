"""What answers are turned into, and how that is compared, one idea a file."""

from collections.abc import Mapping
from typing import Final

from whorl.catalog import Catalog
from whorl.representations.base import Comparer, Representer

__all__ = ["COMPARES", "HOLDS", "REPRESENTATIONS", "SIMILARITIES", "TAKES", "Comparer", "Representer"]

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

# What a representation is made of: "classes", "numbers", or "shares", which are numbers in [0, 1].
HOLDS: Final[Mapping[str, str]] = {
    "ddv": "numbers",
    "hard-ddv": "classes",
    "hard-sac": "classes",
    "labels": "classes",
    "lime": "numbers",
    "sac": "shares",
    "scores": "numbers",
}

# What a similarity can compare.
COMPARES: Final[Mapping[str, tuple[str, ...]]] = {
    "cosine": ("numbers", "shares"),
    "hamming": ("classes",),
    "l1": ("shares",),
    "l2": ("numbers", "shares"),
    "mutual-information": ("classes",),
}

# What a query must ask for a representation to exist, where a picture is not enough.
TAKES: Final[Mapping[str, str]] = {"ddv": "pairs", "hard-ddv": "pairs", "lime": "masks"}
