"""The population level: how does a suspect rank among independent models?

If the suspect were independent, exchangeable with the N models of the null, each of its N + 1 possible ranks would be
equally likely. So it exceeds the r-th largest null similarity with probability at most r / (N + 1), whatever the
distribution of similarities and however the queries depend on each other.

The sampling level (`whorl.detection.sequential`) adds the chance that the queries asked so far misrepresent the
suspect. A committed fingerprint is finite and every null model has answered all of it, so the null similarities are
exact; only the suspect's is estimated, and no upper confidence bound on the null is needed.

Source: Vovk, Gammerman & Shafer, *Algorithmic Learning in a Random World*, 2005, chapter 2 (conformal p-values).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from whorl.errors import UsageError
from whorl.metrics import as_scores

__all__ = ["Plan", "plan", "rank_p_value"]

SMALLEST_ALPHA = 1e-9


def rank_p_value(similarity: float, null: ArrayLike) -> float:
    """Conformal p-value of a suspect among independent models: (1 + #{null >= similarity}) / (N + 1).

    Shape:
        null: ``[N]``. Returns a float in [1/(N+1), 1]; ties count against the claim.
    """
    similarities = as_scores(null, "null similarities", least=0)
    return (1 + int((similarities >= similarity).sum())) / (len(similarities) + 1)


@dataclass(frozen=True)
class Plan:
    """How an error of ``alpha`` is spent, fixed before the first query.

    A suspect is derived when its similarity is shown to be above ``threshold``, the ``rank``-th largest of the
    ``independents``. ``error_bound`` = rank/(N+1) + ``sampling_error`` bounds the chance that an independent model is
    called derived. With too few independents (``sufficient`` is False) nothing can be called derived at this alpha;
    ``needed`` is the number that would suffice.
    """

    alpha: float
    sampling_error: float
    independents: int
    rank: int
    threshold: float
    error_bound: float
    p_value_floor: float
    sufficient: bool
    needed: int

    def p_value(self, as_alike: int) -> float:
        """p-value when ``as_alike`` independents are as alike as the suspect is shown to be; valid at any time.

        With probability 1 - ``sampling_error`` the suspect's true similarity is never overstated; then this is at
        least its conformal p-value plus ``sampling_error``. So P(p <= u) <= u for an independent suspect, at
        whatever moment one looks. At most ``alpha`` if and only if ``as_alike < rank``.
        """
        p_value = min(1.0, (1 + as_alike) / (self.independents + 1) + self.sampling_error)
        # Within the rank the exact sum is at most alpha; rounding must not say otherwise.
        return min(p_value, self.alpha) if as_alike < self.rank else p_value


def plan(null: ArrayLike, *, alpha: float, sampling_error: float | None = None) -> Plan:
    """Divide ``alpha`` between the two levels.

    The sampling level gets ``sampling_error`` (a fifth of alpha by default; 0 where every query is asked anyway), the
    population level the rest. Where the rest is too small for even one rank, the sampling level gives back what it
    must: with exactly 1/alpha - 1 independents nothing is left, and only certainty stops the test early.

    Shape:
        null: ``[N]`` similarities of independent models; may be empty.

    Raises:
        UsageError: an error rate that is none, or a ``sampling_error`` that is not below alpha.
    """
    similarities = as_scores(null, "null similarities", least=0)
    if not SMALLEST_ALPHA <= alpha < 1:
        raise UsageError(f"alpha is an error rate in [{SMALLEST_ALPHA:g}, 1), as in 0.01; this is {alpha}")
    if sampling_error is not None and not 0 <= sampling_error < alpha:
        raise UsageError(f"the sampling error is a part of alpha = {alpha}, at least 0; this is {sampling_error}")
    total = _exact(alpha)
    sampling = total / 5 if sampling_error is None else _exact(sampling_error)
    ranks = len(similarities) + 1
    rank = math.floor((total - sampling) * ranks)
    if rank == 0:
        rank = int(total * ranks >= 1)
        sampling = max(total - Fraction(1, ranks), Fraction(0))
    return Plan(
        alpha=alpha,
        sampling_error=float(sampling),
        independents=len(similarities),
        rank=rank,
        threshold=float(np.sort(similarities)[-rank]) if rank else math.inf,
        error_bound=min(alpha, float(Fraction(rank, ranks) + sampling)),
        p_value_floor=float(Fraction(1, ranks) + sampling),
        sufficient=rank > 0,
        needed=math.ceil(1 / total) - 1,
    )


def _exact(rate: float) -> Fraction:
    """The fraction a person meant: 1/20 for 0.05, whose double is a little more; no rank may hang on that."""
    return Fraction(rate).limit_denominator(10**12)
