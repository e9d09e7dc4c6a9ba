"""Comparers: how alike two representations are."""

from __future__ import annotations

from typing import ClassVar

from whorl.detection.similarities import cosine, l1, l2, matching, mutual_information
from whorl.representations.base import Comparer, Held
from whorl.types import Evidence, Representation

__all__ = ["L1", "L2", "Cosine", "Hamming", "MutualInformation"]


class Hamming(Comparer):
    """Share of equal labels: 1 - Hamming distance."""

    compares: ClassVar[tuple[Held, ...]] = ("classes",)

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """Matching rate in [0, 1] (IPGuard, section 4.3)."""
        return matching(reference.values, observed.values)


class Cosine(Comparer):
    """Angle between the real-valued answers to each query."""

    compares: ClassVar[tuple[Held, ...]] = ("numbers", "shares")

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """(1 + cos) / 2 in [0, 1] (ModelDiff; QuRD)."""
        return cosine(reference.values, observed.values)


class L2(Comparer):
    """Root-mean-square distance of real-valued answers; it compares the set as a whole."""

    compares: ClassVar[tuple[Held, ...]] = ("numbers", "shares")
    per_query: ClassVar[bool] = False

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """1 / (1 + distance) in (0, 1] (QuRD)."""
        return l2(reference.values, observed.values)


class L1(Comparer):
    """Mean absolute difference of numbers in [0, 1]; it compares the set as a whole."""

    compares: ClassVar[tuple[Held, ...]] = ("shares",)
    per_query: ClassVar[bool] = False

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """1 - distance in [0, 1] (SAC, section 3)."""
        return l1(reference.values, observed.values)


class MutualInformation(Comparer):
    """Information that two lists of labels share, whatever the classes are called; it compares the set as a whole."""

    compares: ClassVar[tuple[Held, ...]] = ("classes",)
    per_query: ClassVar[bool] = False
    any_classes: ClassVar[bool] = True

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """I / min(H, H) in [0, 1] (FBI; QuRD)."""
        return mutual_information(reference.values, observed.values)
