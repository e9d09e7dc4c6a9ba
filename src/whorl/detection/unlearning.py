"""Has a model forgotten? Its likeness to the model before, ranked among models that never knew.

If unlearning was exact, the model after it is exchangeable with honest retrains: models trained without what was to be
forgotten. So it is as near to the model before as one of them, and its conformal p-value is small with no more than
that probability. One that only pretends is nearer. Needs no bound on how far retraining carries a model.

Source: Jia et al., *A Zest of LIME*, ICLR 2022, which proposes the distance; its exact protocol is not published in
what could be read, so the rank test here is the conformal one of `whorl.detection.population`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from numpy.typing import ArrayLike

from whorl.detection.population import rank_p_value
from whorl.errors import UsageError
from whorl.metrics import as_scores

__all__ = ["Forgetting", "forgetting"]


@dataclass(frozen=True)
class Forgetting:
    """What the test says of a model that is said to have forgotten.

    ``retained``: nearer to the model before than honest retrains are, at level ``alpha``. ``consistent``: no such
    sign, which is no proof. ``inconclusive``: too few retrains for any p-value to reach ``alpha``; ``needed`` suffice.
    """

    decision: Literal["retained", "consistent", "inconclusive"]
    similarity: float
    p_value: float
    p_value_floor: float
    alpha: float
    retrains: int
    needed: int


def forgetting(similarity: float, retrains: ArrayLike, *, alpha: float = 0.05) -> Forgetting:
    """Rank a model after unlearning among honest retrains by similarity to the model before.

    The p-value is at most u with probability at most u when unlearning was exact, for every u.

    Shape:
        retrains: ``[N]`` similarities of models trained without what was to be forgotten; N >= 1.

    Raises:
        UsageError: no retrain, a similarity that is none, or an ``alpha`` outside (0, 1).
    """
    if not 0 < alpha < 1:
        raise UsageError(f"alpha is an error rate in (0, 1), as in 0.05; this is {alpha}")
    if not math.isfinite(similarity):
        raise UsageError(f"the similarity of the model after unlearning is {similarity}; a finite number is needed")
    null = as_scores(retrains, "similarities of honest retrains", least=1)
    p_value, floor = rank_p_value(similarity, null), 1 / (len(null) + 1)
    reached = "retained" if p_value <= alpha else "consistent"
    return Forgetting(
        decision=reached if floor <= alpha else "inconclusive",
        similarity=similarity,
        p_value=p_value,
        p_value_floor=floor,
        alpha=alpha,
        retrains=len(null),
        needed=math.ceil(1 / alpha) - 1,
    )
