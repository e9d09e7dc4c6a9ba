"""The least that any endpoint returns: the predicted class of each query."""

from __future__ import annotations

from typing import ClassVar

from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.representations.base import Held, Representer, ask
from whorl.types import Access, Queries, Representation

__all__ = ["Labels"]


class Labels(Representer):
    """Predicted classes ``[n]`` int64, or ``[n, m]`` where each query asks m inputs."""

    holds: ClassVar[Held | None] = "classes"
    needs_suspect: ClassVar[Access] = Access.LABELS
    values: ClassVar[Layout] = Layout("n ...", "int64", 0, "k")

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """One label per input."""
        return Representation(ask(oracle.labels, queries.inputs, oracle.space))
