"""Schemes that compare predicted labels one by one: the matching rate of IPGuard and its kin."""

from __future__ import annotations

from whorl.representations.labels import Labels
from whorl.representations.similarity import Hamming
from whorl.schemes.base import Scheme

__all__ = ["Matching"]


class Matching(Labels, Hamming, Scheme):
    """Label-only verification by the share of queries on which suspect and victim agree."""
