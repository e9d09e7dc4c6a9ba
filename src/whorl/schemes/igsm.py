"""IGSM: label agreement on iterated adversarial examples, a baseline of the IPGuard paper.

Papers: Kurakin et al., ICLR 2017 workshop; Cao, Jia, Gong, AsiaCCS 2021, section 5.1. Queries: iterated sign steps.
Representation: labels. Similarity: matching rate. In the paper it is unique but not robust: filter pruning takes its
match from .99 to .09.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.queries.adversarial import SignGradient
from whorl.schemes.matching import Matching
from whorl.settings import Count

__all__ = ["IGSM"]


@dataclass(frozen=True, kw_only=True)
class IGSM(SignGradient, Matching):
    """``steps`` steps of a tenth of ``epsilon``."""

    name: ClassVar[str] = "igsm"
    paper: ClassVar[str] = "Kurakin et al., ICLR 2017 workshop, arXiv 1607.02533 (baseline of IPGuard)"
    idea: ClassVar[str] = "Agreement on iterated adversarial examples."
    blind: ClassVar[str] = "filter pruning and retraining, which undo its points"

    steps: Count = 20
