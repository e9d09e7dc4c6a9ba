"""ModelDiff: do two models find the same pairs of pictures near, and the same pairs far?

Paper: Y. Li, Z. Zhang, B. Liu, Z. Yang, Y. Liu, *ModelDiff: Testing-Based DNN Similarity Comparison for Model Reuse
Detection*, ISSTA 2021, arXiv 2106.08890.

Queries: pairs of a training picture and a near one that the victim answers differently. Representation: the cosine
distance of the two outputs, pair by pair (decision-distance vector). Similarity: cosine of the two vectors.
Access: gradients of the victim (its scores for `modeldiff-black-box`), probabilities of the suspect, which may have
other classes or another task, since outputs are compared within one model only.

Changed from the paper: one batched ascent on divergence plus weighted diversity stands for the published loss, whose
target is each output's mirror image at the batch mean; pictures are natural, not randomly cropped, and stay in [0, 1].
The published bound of .06 to .1 was on normalised pixels, which is .014 to .023 of raw ones at a standard deviation of
.225: the default of .1 here is wider by four to seven times. Mutations climb on the victim alone, since the suspect is
not known yet, where the published search multiplies in the suspect's own divergence; every pair tries one pixel both
ways in each of 100 rounds, where up to 1,000 mutations of 300 pairs are published. Distances are between probabilities,
since interfaces return those and logits give other values. The paper's threshold is not known in full; suspects are
ranked. The published repository in the end compares matrices of all pairs' distances; the paper's vectors are compared
here.

The paper's own figure: 91.7 % of 144 pairs right, where a derived model must be nearer than every reference.
Measured on small digit nets (16 px, 100 pairs, 2 victims, 3 seeds): tuned, retrained and pruned copies (.91 and more)
and copies with a new head for 5 classes (.83 to .91) rank above every independent model (.74 at most, .40 on average);
copies for 2 classes (.70 to .82) nearly always. With pairs by mutation the same but for single copies. Extracted nets
(.54 to .74) stand above the average independent model and not above the nearest. ``outputs=scores, centred=true``
doubles the gap between tuned copies and independent models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import cosine_similarity

from whorl.queries.divergent import GradientPairs, MutatedPairs
from whorl.representations.base import Comparer
from whorl.representations.decisions import DecisionDistances
from whorl.schemes.base import Scheme
from whorl.types import Access, Evidence, Representation

__all__ = ["ModelDiff", "ModelDiffBlackBox"]


@dataclass(frozen=True, kw_only=True)
class _Compared(DecisionDistances, Comparer):
    """What both variants share.

    Parameters:
        centred: subtract each vector's mean first, so that what all pairs have in common does not count.
    """

    paper: ClassVar[str] = "Li et al., ISSTA 2021, arXiv 2106.08890"
    blind: ClassVar[str] = "extraction, where the copy learns its own reaction to small changes"
    per_query: ClassVar[bool] = False

    centred: bool = False

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """Cosine of the two decision-distance vectors, in [0, 1] ([-1, 1] if centred)."""
        first, second = reference.values, observed.values
        if self.centred:
            first, second = first - first.mean(), second - second.mean()
        return Evidence(float(cosine_similarity(first, second, dim=0)))


@dataclass(frozen=True, kw_only=True)
class ModelDiff(GradientPairs, _Compared, Scheme):
    """Pairs by projected gradient ascent on the victim; see `GradientPairs` and `DecisionDistances`."""

    name: ClassVar[str] = "modeldiff"
    idea: ClassVar[str] = "Which small changes of a picture move the answer, and how far, whatever the answer is."
    needs_victim: ClassVar[Access] = Access.GRADIENTS


@dataclass(frozen=True, kw_only=True)
class ModelDiffBlackBox(MutatedPairs, _Compared, Scheme):
    """Pairs by mutation of single pixels, for victims without gradients; see `MutatedPairs`."""

    name: ClassVar[str] = "modeldiff-black-box"
    idea: ClassVar[str] = "As modeldiff, with pairs found by mutation from the victim's scores."
