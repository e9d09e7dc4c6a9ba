"""AKH, the Anna Karenina heuristic: label agreement on inputs that the victim gets wrong.

Paper: A. Godinot, E. Le Merrer, C. Penzo, F. Taiani, G. Tredan, *Queries, Representation & Detection: The Next 100
Model Fingerprinting Schemes*, AAAI 2025, arXiv 2412.13021.

Queries: misclassified held-out pictures. Representation: labels. Similarity: matching rate (1 - Hamming).
Access: labels of both, and labelled pictures on which nobody trained.

Changed from the paper: when errors run out, CutMix pictures fill up (see `Negatives`), even for a victim that
makes none.
The paper's own figure: replacing random by negative queries is the largest single gain of its whole grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.queries.negatives import Negatives
from whorl.schemes.matching import Matching

__all__ = ["AKH"]


@dataclass(frozen=True, kw_only=True)
class AKH(Negatives, Matching):
    """Inputs that the victim misclassifies; see `Negatives` for the settings."""

    name: ClassVar[str] = "akh"
    paper: ClassVar[str] = "Godinot et al., AAAI 2025, arXiv 2412.13021"
    idea: ClassVar[str] = (
        "Agreement on pictures that the victim gets wrong: right answers are alike, errors are personal."
    )
    blind: ClassVar[str] = "victims that hardly err, and independent models that share the errors of the data"
