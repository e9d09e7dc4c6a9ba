"""Which parts of a picture carry a model's answer: the weights of LIME's linear model.

Papers: Ribeiro, Singh, Guestrin, *"Why Should I Trust You?"*, KDD 2016 (LIME); Jia et al., *A Zest of LIME*, ICLR
2022, whose regression has no intercept, no kernel and no penalty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.representations.base import Held, Representer, ask
from whorl.types import Access, Asked, Queries, Representation

__all__ = ["LimeWeights"]


@dataclass(frozen=True, kw_only=True)
class LimeWeights(Representer):
    """Least-squares weights of the superpixels for each class, ``[n, superpixels, classes]`` float32.

    The solution of least norm of masks @ weights = scores, (M^T M)^+ M^T Y, for all pictures at once.

    Parameters:
        intercept: also fit a constant per picture and class, and forget it. Then a model whose answers are shifted,
            as by a changed bias of the head, keeps its weights. Zest has none.
    """

    takes: ClassVar[Asked | None] = "masks"
    holds: ClassVar[Held | None] = "numbers"
    needs_suspect: ClassVar[Access] = Access.PROBABILITIES
    values: ClassVar[Layout] = Layout("n parts k")

    intercept: bool = False

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """Ask about all masked pictures and regress the scores on the masks."""
        if "masks" not in queries.companions or queries.inputs.ndim != 5:
            raise UsageError(
                "LIME weights need masked pictures [n, m, c, h, w] with their masks, as the sampler Masks makes them"
            )
        masks = queries.companions["masks"].double()
        scores = ask(oracle.scores, queries.inputs, oracle.space).double()
        if self.intercept:
            masks, scores = masks - masks.mean(1, keepdim=True), scores - scores.mean(1, keepdim=True)
        # Masks are zeros and ones, so what lies below the tolerance is rounding and not a direction.
        gram = torch.linalg.pinv(masks.mT @ masks, hermitian=True, rtol=1e-9)
        return Representation((gram @ (masks.mT @ scores)).float())
