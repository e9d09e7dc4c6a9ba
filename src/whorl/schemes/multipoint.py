"""Multipoint: label agreement around points where many classes meet.

Papers: Z. Geng, G. Yang, Y. Chen, C. Luo, *IrisFP: Adversarial-Example-based Model Fingerprinting with Enhanced
Uniqueness and Robustness*, CVPR 2026, arXiv 2603.24996, for the idea of points near the intersection of all boundaries.

Queries: for each picture a k-way tie, and around it one probe per class of the tie that leads by gamma (`ties`,
`margin`). Representation: labels. Similarity: matching rate; by construction a stranger's is near 1 / k.
Access: gradients of the victim, labels of the suspect.

Changed from the paper: ties by Gauss-Newton steps of least norm instead of descent on a divergence from the uniform
distribution plus an L1 penalty; each probe is a query of its own (IrisFP's composites of several samples, its ranking
of them by Cohen's d on pools of copies and strangers, and its thresholds per composite are left out: the verdict ranks
the suspect among independent models). Points stay in [0, 1]. k and gamma are settings, not values of the paper.
The paper's own figures (CIFAR-10, ResNet-18): AUC .893 against IPGuard's .675 and ADV-TRA's .799.
Measured here (digits, ResNet-8, 2 victims x 3 extractions of 50, 9 independent models): every tie converges; strangers
match at .56, .41, .29, .15 on average for k = 2, 3, 5, 10, and the worst of them is refuted for a tuned or pruned copy
after 4 queries in the median at k = 10, 12 at k = 2 (`benchmarks/multipoint.py`, 99 independent models: 4 and 11).
Probes of k = 10 are also more fragile: retrained copies match at .36 to .48 (.72 to .92 at k = 2) and take 25 queries
(34), and pruning of 70 % of the weights escapes them. The paper's order does not hold here: IPGuard's points, whose
target is the least likely class, match with strangers at .03, lose less to retraining and take 2 queries, at seven
times the cost of extraction. What falls with k is measured against points between the two *likeliest* classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.queries.multipoint import Multipoint as Probes
from whorl.schemes.matching import Matching

__all__ = ["Multipoint"]


@dataclass(frozen=True, kw_only=True)
class Multipoint(Probes, Matching):
    """Probes around points where ``ties`` classes meet; see `whorl.queries.multipoint.Multipoint` for the settings."""

    name: ClassVar[str] = "multipoint"
    paper: ClassVar[str] = "Geng et al., CVPR 2026, arXiv 2603.24996 (IrisFP's idea of many boundaries at once)"
    idea: ClassVar[str] = "Agreement around points where many classes meet, which a stranger guesses 1 time in k."
    blind: ClassVar[str] = "extraction, which draws other boundaries; retraining and adversarial training weaken it"
