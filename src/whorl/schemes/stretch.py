"""Stretch (AnaFP): label agreement on boundary points, each as far past the boundary as its own bounds allow.

Paper: Yang, Geng, Chen, Luo, *Fingerprinting DNNs for Ownership Protection: An Analytical Approach*, ICLR 2026,
arXiv 2603.21411.

Queries: x + tau delta, with delta the smallest change that leaves the class of x and tau between
tau_low = 1 + 2 eps_logit / (c_g |delta|), below which copies could undo it, and tau_up = m_min / (2 L |delta|), above
which independent models could follow. The constants are quantiles over shadow models. Representation: labels.
Similarity: matching rate. Access: gradients of the victim, labels of the suspect, shadow models with probabilities.

Changed from the paper: delta comes from DeepFool instead of Carlini-Wagner (3000 steps), at a hundredth of the passes.
Quantiles go over the models for each picture, not over all pictures: with one set of constants for all, independent
models matched at .2 to .3 here. The relaxation over a grid of 500 lowers the share of copies that tau_low holds for
until enough pictures have tau_low <= tau_up, and leaves tau_up alone, for a verdict ranks the suspect among
independents; relaxed together, both gave a lower AUC. tau is the middle of its interval. The paper's least margin of
an anchor and its quantiles are not known here.
The paper's own figures (CIFAR-10, AUC): .957, with distillation .756 and pruning 1.0.
Measured here (digits, 2 victims, 3 seeds, 50 queries; shadow copies tuned and pruned only; suspects retrained,
quantised or extracted): AUC .98 and ARUC .51, against .90 and .47 of `ipguard` at k = 5, its best of 1, 2, 5, 10, 20.
Most of the gain in AUC is DeepFool's, not the stretch's: `deepfool` at overshoot .5 has AUC 1.0, with ARUC .44.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.queries.stretch import StretchedPoints
from whorl.schemes.matching import Matching

__all__ = ["Stretch"]


@dataclass(frozen=True, kw_only=True)
class Stretch(StretchedPoints, Matching):
    """A stretch of its own for each point; see `StretchedPoints` for the settings."""

    name: ClassVar[str] = "stretch"
    paper: ClassVar[str] = "Yang et al., ICLR 2026, arXiv 2603.21411 (AnaFP)"
    idea: ClassVar[str] = "Agreement on boundary points, each stretched as far as shadow models say that it may be."
    blind: ClassVar[str] = "extraction, in part; independent models unlike all of the shadow pool"
