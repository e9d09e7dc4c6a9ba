"""IPGuard: label agreement on points just across the victim's classification boundary.

Paper: X. Cao, J. Jia, N. Z. Gong, *IPGuard: Protecting Intellectual Property of Deep Neural Networks via Fingerprinting
the Classification Boundary*, AsiaCCS 2021, arXiv 1910.12903.

Queries: boundary points (equation 3). Representation: labels. Similarity: matching rate.
Access: gradients of the victim, labels of the suspect.

Changed from the paper: points stay in [0, 1], so that an interface accepts them, and their labels are read after
that; all points are optimised in one batch, and the best iterate of one that does not converge is kept. k, the rule
for the target and the learning rate are not all published, so they are settings.
The paper's own figures (CIFAR-10, ResNet-20): every fine-tuned and retrained copy matches at 1.00, no independent
model above .09. `benchmarks/` measures the same shape here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.queries.boundary import Boundary
from whorl.schemes.matching import Matching

__all__ = ["IPGuard"]


@dataclass(frozen=True, kw_only=True)
class IPGuard(Boundary, Matching):
    """Points at distance ``margin`` (the paper's k) past the boundary; see `Boundary` for the settings."""

    name: ClassVar[str] = "ipguard"
    paper: ClassVar[str] = "Cao, Jia, Gong, AsiaCCS 2021, arXiv 1910.12903"
    idea: ClassVar[str] = "Agreement on points just across the victim's classification boundary."
    blind: ClassVar[str] = "extraction and adversarial training, which draw another boundary"
