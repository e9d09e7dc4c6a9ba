"""Random: label agreement on pictures as they are, IPGuard's weakest baseline.

Paper: Cao, Jia, Gong, *IPGuard*, AsiaCCS 2021, section 5.1. Queries: held-out pictures or noise. Representation:
labels. Similarity: matching rate. Two good models of one task agree on most pictures, so this has no uniqueness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.queries.natural import Natural
from whorl.schemes.matching import Matching

__all__ = ["Random"]


@dataclass(frozen=True, kw_only=True)
class Random(Natural, Matching):
    """Pictures without any optimisation."""

    name: ClassVar[str] = "random"
    paper: ClassVar[str] = "Cao, Jia, Gong, AsiaCCS 2021, arXiv 1910.12903 (baseline)"
    idea: ClassVar[str] = "Agreement on pictures as they are: the baseline that any scheme must beat."
    blind: ClassVar[str] = "the difference between a copy and a good model of its own"
