"""DeepFool: label agreement on points just past the victim's nearest boundary.

Papers: S. Wang, C.-H. Chang, *Fingerprinting Deep Neural Networks - a DeepFool Approach*, ISCAS 2021,
doi 10.1109/ISCAS51556.2021.9401119. The points are those of S.-M. Moosavi-Dezfooli, A. Fawzi, P. Frossard, CVPR 2016,
arXiv 1511.04599.

Queries: x + (1 + eta) r, with r the smallest change that leaves the class of x, whatever the class it enters.
Representation: labels. Similarity: matching rate. Access: gradients of the victim, labels of the suspect.

Changed from the paper: its text could not be read, so its overshoot, its number of points and its threshold are not
known; eta is a setting, like IPGuard's k. DeepFool's own .02 is a numerical tolerance: there int8 rounding alone undoes
half of the points. Points stay in [0, 1], and their labels are read after that.
Measured here (digits, 2 victims, 3 seeds, 50 queries, eta = .02, .1, .5, 1, 2): copies that were tuned, pruned or
quantised match at .42, .60, .84, .90, .92 and independent models at .02, .02, .02, .05, .14. Up to eta = .5 even
extracted copies, which match at .16 only, stay above the independent models (AUC .99 or more); at 2 they do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.queries.deepfool import DeepFoolPoints
from whorl.schemes.matching import Matching

__all__ = ["DeepFool"]


@dataclass(frozen=True, kw_only=True)
class DeepFool(DeepFoolPoints, Matching):
    """Points ``overshoot`` past the nearest boundary; see `DeepFoolPoints` for the settings."""

    name: ClassVar[str] = "deepfool"
    paper: ClassVar[str] = "Wang & Chang, ISCAS 2021, doi 10.1109/ISCAS51556.2021.9401119"
    idea: ClassVar[str] = "Agreement on points just past the victim's nearest boundary, found by DeepFool."
    blind: ClassVar[str] = (
        "adversarial training; at a small overshoot any change of the boundary, at a large one extraction"
    )
