"""Real-valued answers: what an endpoint with probabilities returns."""

from __future__ import annotations

from typing import ClassVar

from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.representations.base import Held, Representer, ask
from whorl.types import Access, Queries, Representation

__all__ = ["Scores"]


class Scores(Representer):
    """Centred log-probabilities, or the outputs of other tasks (`Oracle.scores`): ``[n, classes]`` float32.

    ``[n, m, classes]`` where each query asks m inputs.
    """

    holds: ClassVar[Held | None] = "numbers"
    needs_suspect: ClassVar[Access] = Access.PROBABILITIES
    values: ClassVar[Layout] = Layout("n ...")
    any_task: ClassVar[bool] = True

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """One row of scores per input."""
        return Representation(ask(oracle.scores, queries.inputs, oracle.space))
