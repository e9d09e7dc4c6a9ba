"""Comparers: how alike two representations are."""

from __future__ import annotations

from whorl.detection.similarities import matching
from whorl.representations.base import Comparer
from whorl.types import Evidence, Representation

__all__ = ["Hamming"]


class Hamming(Comparer):
    """Share of equal labels: 1 - Hamming distance."""

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """Matching rate in [0, 1] (IPGuard, section 4.3)."""
        return matching(reference.values, observed.values)
