"""Schemes that compare predicted labels one by one: the matching rate of IPGuard and its kin."""

from __future__ import annotations

from whorl.detection.similarities import matching
from whorl.representations.labels import Labels
from whorl.schemes.base import Scheme
from whorl.types import Evidence, Representation

__all__ = ["Matching"]


class Matching(Labels, Scheme):
    """Label-only verification by the share of queries on which suspect and victim agree."""

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """Matching rate in [0, 1] (IPGuard, section 4.3)."""
        return matching(reference.values, observed.values)
