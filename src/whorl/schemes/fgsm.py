"""FGSM: label agreement on one-step adversarial examples, a baseline of the IPGuard paper.

Papers: Goodfellow et al., ICLR 2015; Cao, Jia, Gong, AsiaCCS 2021, section 5.1. Queries: one sign step. Representation:
labels. Similarity: matching rate. Such points transfer to independent models, so uniqueness is poor: the paper's
independent models match at up to .78.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.queries.adversarial import SignGradient
from whorl.schemes.matching import Matching

__all__ = ["FGSM"]


@dataclass(frozen=True, kw_only=True)
class FGSM(SignGradient, Matching):
    """One step of size ``epsilon``."""

    name: ClassVar[str] = "fgsm"
    paper: ClassVar[str] = "Goodfellow et al., ICLR 2015, arXiv 1412.6572 (baseline of IPGuard)"
    idea: ClassVar[str] = "Agreement on one-step adversarial examples."
    blind: ClassVar[str] = "uniqueness: its points fool independent models too"
