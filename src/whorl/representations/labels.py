"""The least that any endpoint returns: the predicted class of each query."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from whorl.oracles.base import Oracle
from whorl.types import Access, Queries, Representation

__all__ = ["Labels", "Representer"]


class Representer(ABC):
    """Turns an oracle's answers to queries into something to compare."""

    needs_suspect: ClassVar[Access]
    """Access to the suspect at verification."""
    per_query: ClassVar[bool] = True
    """Whether each query can be represented alone, so that a test may stop early."""

    @abstractmethod
    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """Ask the oracle about the queries."""


class Labels(Representer):
    """Predicted classes ``[n]`` int64."""

    needs_suspect: ClassVar[Access] = Access.LABELS

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """One label per query."""
        return Representation(oracle.labels(queries.inputs))
