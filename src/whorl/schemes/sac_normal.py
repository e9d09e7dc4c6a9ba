"""SAC-normal: how a model's answers to plain pictures correlate, the weak baseline of SAC.

Paper: J. Guan, J. Liang, R. He, *Are You Stealing My Model? Sample Correlation for Fingerprinting Deep Neural
Networks*, NeurIPS 2022, arXiv 2210.15427.

Queries: held-out pictures. Representation: correlation matrix of the scores. Similarity: 1 - mean absolute difference.
Access: probabilities of the suspect. Label-only variant: random+hard-sac+hamming.

Changed from the paper: as `SACM`. On digits it is weaker on fine-tuned copies, as published (AUC .90 against 1.00),
and not on extracted ones (1.00 against .97).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.queries.natural import Natural
from whorl.representations.correlations import Correlations
from whorl.representations.similarity import L1
from whorl.schemes.base import Scheme

__all__ = ["SACNormal"]


@dataclass(frozen=True, kw_only=True)
class SACNormal(Natural, Correlations, L1, Scheme):
    """Plain pictures; see `Natural` and `Correlations` for the settings."""

    name: ClassVar[str] = "sac-normal"
    paper: ClassVar[str] = "Guan, Liang, He, NeurIPS 2022, arXiv 2210.15427 (baseline)"
    idea: ClassVar[str] = "How the answers to plain pictures resemble each other."
    blind: ClassVar[str] = "what good models of one task have in common: classes that resemble each other"
