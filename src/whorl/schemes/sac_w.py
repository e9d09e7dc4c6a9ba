"""SAC-w: how a model's answers to errors that survive theft correlate.

Paper: J. Guan, J. Liang, R. He, *Are You Stealing My Model? Sample Correlation for Fingerprinting Deep Neural
Networks*, NeurIPS 2022, arXiv 2210.15427.

Queries: pictures that the victim misclassifies, those first on which most shadow copies err too. Representation:
(1 - cos) / 2 of every two score vectors, or a Gaussian kernel. Similarity: 1 - mean absolute difference of the two
matrices. Access: labels of the victim and of shadow copies at extraction; probabilities of the suspect, which may
have other classes. Label-only variant: common-errors+hard-sac+hamming; without shadow models: negative+sac+l1.

Changed from the paper: its surrogates resemble the copies under test, which leaks the test into the choice; here
the shadow models' digests are kept in the fingerprint and none can be tested. When errors run out, CutMix pictures
that the victim gets wrong fill up (`Negatives`). Scores are centred log-probabilities (see `SACM`).
The paper's own figures: AUC near 1 on most families of removals, ahead of SAC-normal. On digits (two victims, three
extractions, 100 queries) the AUC is 1.00 for fine-tuned, pruned and quantised copies and .97 for extracted ones as
good as the victim, but below .4 for thieves that lose a tenth of the accuracy; a copy with another head is told from
independent models with such a head at .99 (5 classes) and .52 (2 classes). The label-only variant has .94, .99, 1.00
and .80.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.queries.negatives import CommonErrors
from whorl.representations.correlations import Correlations
from whorl.representations.similarity import L1
from whorl.schemes.base import Scheme

__all__ = ["SACW"]


@dataclass(frozen=True, kw_only=True)
class SACW(CommonErrors, Correlations, L1, Scheme):
    """Errors shared with shadow copies; see `CommonErrors` and `Correlations` for the settings."""

    name: ClassVar[str] = "sac-w"
    paper: ClassVar[str] = "Guan, Liang, He, NeurIPS 2022, arXiv 2210.15427"
    idea: ClassVar[str] = "How the answers to errors that survive theft resemble each other."
    blind: ClassVar[str] = "extraction that loses accuracy, and suspects with fewer classes than the null"
