"""How far a model's answers to the two pictures of a pair are apart: ModelDiff's decision-distance vectors.

Papers: Li et al., *ModelDiff*, ISSTA 2021 (DDV); Godinot et al., *Queries, Representation & Detection*, AAAI 2025
(HardDDV, for labels).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.representations.base import Held, Representer, ask
from whorl.types import Access, Asked, Queries, Representation

__all__ = ["DecisionDistances", "LabelShifts"]


@dataclass(frozen=True, kw_only=True)
class DecisionDistances(Representer):
    """Cosine distance in [0, 2] between the outputs for seed and partner, ``[n]`` float32.

    Outputs are compared within one model only, so another number of classes or another task is no obstacle.

    Parameters:
        outputs: of a classifier, its ``probabilities``, or its centred log-probabilities (``scores``), between which
            two classes leave no distance but 0 and 2. The outputs of other tasks are taken as they are.
    """

    takes: ClassVar[Asked | None] = "pairs"
    holds: ClassVar[Held | None] = "numbers"
    needs_suspect: ClassVar[Access] = Access.PROBABILITIES
    any_classes: ClassVar[bool] = True
    values: ClassVar[Layout] = Layout("n", low=0, high=2)

    outputs: Literal["probabilities", "scores"] = "probabilities"

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """One distance per pair."""
        answers = ask(oracle.scores, _pairs(queries), oracle.space)
        if self.outputs == "probabilities" and oracle.task == "classification":
            answers = answers.softmax(2)
        distances = 1 - cosine_similarity(answers[:, 0], answers[:, 1], dim=1)
        return Representation(distances.clamp(0, 2))  # sums round, and the cosine of equal answers goes beyond 1


class LabelShifts(Representer):
    """From the seed's class to the partner's, ``(partner - seed) mod classes``: ``[n]`` int64, 0 where it stays."""

    takes: ClassVar[Asked | None] = "pairs"
    holds: ClassVar[Held | None] = "classes"
    needs_suspect: ClassVar[Access] = Access.LABELS
    values: ClassVar[Layout] = Layout("n", "int64", 0, "k")

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """One shift per pair."""
        seed, partner = ask(oracle.labels, _pairs(queries), oracle.space).unbind(1)
        return Representation(torch.remainder(partner - seed, oracle.classes))


def _pairs(queries: Queries) -> Tensor:
    if queries.inputs.ndim != 5 or queries.inputs.shape[1] != 2:
        raise UsageError(
            f"decision distances need pairs [n, 2, c, h, w]; these queries are {list(queries.inputs.shape)}"
        )
    return queries.inputs
