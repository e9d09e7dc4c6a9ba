"""SAC-m: how a model's answers to mixtures of two pictures correlate.

Paper: J. Guan, J. Liang, R. He, *Are You Stealing My Model? Sample Correlation for Fingerprinting Deep Neural
Networks*, NeurIPS 2022, arXiv 2210.15427.

Queries: CutMix of held-out pictures. Representation: (1 - cos) / 2 of every two score vectors, or a Gaussian kernel.
Similarity: 1 - mean absolute difference of the two matrices. Access: probabilities of the suspect, which may have
other classes. Label-only variant: mixtures+hard-sac+hamming, since one-hot answers have two correlations only.

Changed from the paper: scores are centred log-probabilities, so that an interface gives the same matrix whether it
returns logits or probabilities; the released program takes raw logits. CutMix pastes a box of random size and place
for each picture, as described; the released program pastes one small box near a corner for all (``patch=corner``),
which is nearly no mixture. Both pictures of a mixture are drawn anew from all of the owner's held-out ones, where the
released program mixes one batch of 100 test pictures, flipped at random, with a permutation of itself. The label-only
variant stands for one-hot answers that are smoothed and passed through a softmax. The bandwidth of the Gaussian kernel
and the rule for the threshold are not published, so suspects are ranked.
The paper's own figures: AUC near 1 on most families of removals; QuRD finds 1.0 on SAC's own benchmark and .87 on
another. On digits (two victims, three extractions, 100 queries) the AUC is 1.00 for fine-tuned, pruned and quantised
copies and .97 for extracted ones as good as the victim, but below .3 for thieves that lose a tenth of the accuracy;
a copy with another head is told from independent models with such a head at .90 (5 classes) and .61 (2 classes), and
not at all from independent models of 10 classes: the null must have the suspect's classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.queries.mixtures import Mixtures
from whorl.representations.correlations import Correlations
from whorl.representations.similarity import L1
from whorl.schemes.base import Scheme

__all__ = ["SACM"]


@dataclass(frozen=True, kw_only=True)
class SACM(Mixtures, Correlations, L1, Scheme):
    """CutMix pictures; see `Mixtures` and `Correlations` for the settings."""

    name: ClassVar[str] = "sac-m"
    paper: ClassVar[str] = "Guan, Liang, He, NeurIPS 2022, arXiv 2210.15427"
    idea: ClassVar[str] = "How the answers to mixtures of two pictures resemble each other."
    blind: ClassVar[str] = "extraction that loses accuracy, and suspects with fewer classes than the null"
