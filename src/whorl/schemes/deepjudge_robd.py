"""DeepJudge's robustness distance alone: which of the victim's adversarial examples fool the suspect as well.

Paper: Chen et al., *Copy, Right?*, IEEE S&P 2022, arXiv 2112.05588. It needs labels only and no pool, so it is what
DeepJudge is where a suspect gives no probabilities.

Queries: adversarial examples that fool the victim (`JudgedTests`). Representation: whether each is answered right.
Similarity: 1 - RobD, the share of tests that the suspect gets wrong like the victim.
Access: gradients of the victim, labels of the suspect.

Changed from the paper: as in `deepjudge`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.judged import Judged
from whorl.representations.similarity import Hamming
from whorl.schemes.base import Scheme
from whorl.types import Access, Queries, Representation

__all__ = ["DeepJudgeRobD"]


@dataclass(frozen=True, kw_only=True)
class DeepJudgeRobD(Judged, Hamming, Scheme):
    """Robustness distance on adversarial tests; see `JudgedTests` for the settings."""

    name: ClassVar[str] = "deepjudge-robd"
    paper: ClassVar[str] = "Chen et al., IEEE S&P 2022, arXiv 2112.05588"
    idea: ClassVar[str] = "Whether the victim's adversarial examples fool the suspect too."
    blind: ClassVar[str] = "adversarial training, and independent models to which adversarial examples transfer"
    needs_suspect: ClassVar[Access] = Access.LABELS
    values: ClassVar[Layout] = Layout("n", "int64", 0, 1)

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """Whether each test is answered right, ``[n]`` int64; never by the victim."""
        return Representation((oracle.labels(queries.inputs) == queries.companions["truth"]).long())
