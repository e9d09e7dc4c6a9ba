"""CW-L2: label agreement on Carlini-Wagner examples with confidence k, the strong baseline of the IPGuard paper.

Papers: Carlini & Wagner, S&P 2017; Cao, Jia, Gong, AsiaCCS 2021, section 5.1. Queries: minimal targeted changes.
Representation: labels. Similarity: matching rate. In the paper it matches IPGuard at 16 to 530 times the cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.queries.carlini_wagner import CarliniWagner
from whorl.schemes.matching import Matching

__all__ = ["CWL2"]


@dataclass(frozen=True, kw_only=True)
class CWL2(CarliniWagner, Matching):
    """Smallest change that makes the target lead by ``margin``."""

    name: ClassVar[str] = "cw-l2"
    paper: ClassVar[str] = "Carlini & Wagner, S&P 2017, arXiv 1608.04644 (baseline of IPGuard)"
    idea: ClassVar[str] = "Agreement on minimal targeted perturbations with a margin, found by search."
    blind: ClassVar[str] = "extraction, adversarial training; IPGuard's quality at many times its cost"
