"""Who leaked? A p-value for every user of a code, whatever the colluders made of their copies.

A user's score is the sum over positions of w_i g(x_i, p_i) with w = 2 y - 1 of what was observed, g(1, p) =
sqrt((1 - p) / p) and g(0, p) = -sqrt(p / (1 - p)): mean 0 and variance w^2 for whoever had no part in it. Each summand
is rounded to 1/16. Any function of y, x and p serves, since the row of an innocent was drawn apart from y; and sums of
whole numbers have a law that is summed up exactly.

Source: as in `whorl.detection.codes`. The p-value is that of a randomisation test: Fisher, *The Design of Experiments*,
1935.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from whorl.detection.codes import BlockCode, TardosCode
from whorl.detection.combination import holm
from whorl.errors import UsageError

__all__ = ["Suspicion", "Trace", "named_by_and", "score_tails", "scores_of", "trace"]

FINENESS: Final = 16  # scores are multiples of 1/16
UNDERFLOW: Final = 1e-280  # tails below it are bounded, not summed
TILTS: Final = np.geomspace(1e-4, 1.0, 60)  # exponents tried for the bound


@dataclass(frozen=True)
class Suspicion:
    """What is held against one user.

    ``log_p`` is the natural logarithm of the user's own p-value times the draws; ``adjusted`` is Holm's over all users,
    in [0, 1]; ``named`` whether the AND of a block code names the user.
    """

    user: int
    score: float
    log_p: float
    adjusted: float
    accused: bool
    named: bool


@dataclass(frozen=True)
class Trace:
    """All users, in order. The chance that any innocent is accused is at most ``alpha``, if ``exact``.

    ``why`` says what is missing where it is not.
    """

    users: tuple[Suspicion, ...]
    alpha: float
    exact: bool
    why: str

    @property
    def accused(self) -> tuple[int, ...]:
        """Users whose adjusted p-value is at most alpha."""
        return tuple(each.user for each in self.users if each.accused)

    @property
    def named(self) -> tuple[int, ...]:
        """Users whom the AND of a block code names; none of a Tardos code."""
        return tuple(each.user for each in self.users if each.named)


def trace(observed: ArrayLike, code: TardosCode | BlockCode, alpha: float = 0.01) -> Trace:
    """Whose copies went into what was observed?

    Of a Tardos code p-values are exact, by summation; only those below 1e-280 are an upper bound. Of a block code user
    j's is the number of blocks that score at least as high, over v - (k - 1): exact for at most k - 1 colluders, and
    never below 1/v, so that with Holm over more than a few users nobody can be accused at .01.

    Parameters:
        observed: ``[m]`` bits, or numbers in [0, 1] where 1/2 says nothing of a position.
        alpha: the accepted chance that any innocent is accused.

    Raises:
        UsageError: another shape, numbers outside [0, 1], or alpha outside (0, 1).
    """
    if not 0 < alpha < 1:
        raise UsageError(f"alpha lies between 0 and 1, as 0.01; this is {alpha}")
    seen = _checked(observed, code.rows.shape[1])
    if isinstance(code, TardosCode):
        scores, logs = score_tails(seen, code)
        named = np.zeros(len(scores), bool)
    else:
        scores, logs = _dealt(seen, code)
        named = named_by_and(seen, code)
    corrected = [min(0.0, each + math.log(code.origin.tries)) for each in logs.tolist()]
    adjusted = holm([max(math.exp(each), sys.float_info.min) for each in corrected])
    found = zip(scores.tolist(), corrected, adjusted, named.tolist(), strict=True)
    users = tuple(
        Suspicion(user, score, log_p, p, p <= alpha, known) for user, (score, log_p, p, known) in enumerate(found)
    )
    return Trace(users, alpha, not code.why, code.why)


def scores_of(observed: ArrayLike, code: TardosCode) -> NDArray[np.int64]:
    """Scores ``[users]`` times 16."""
    ones, zeros = _summands(_checked(observed, code.plan.length), code.biases)
    return np.where(code.rows, ones, zeros).sum(1)


def score_tails(observed: ArrayLike, code: TardosCode) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores ``[users]``, and log P(S >= score) ``[users]`` for S the score of a row that nobody had.

    S is the sum of the smaller summands plus that of independent gaps, each with its chance. Gaps only add, so that one
    pass over the positions gives P(S = s) for every s up to the largest score, and what lies above it in one number: no
    term is rounded but by floating point, which loses less than 1e-11 of any tail, as all terms are positive.
    """
    ones, zeros = _summands(_checked(observed, code.plan.length), code.biases)
    scores = np.where(code.rows, ones, zeros).sum(1)
    gaps, chances = np.abs(ones - zeros), np.where(ones >= zeros, code.biases, 1 - code.biases)
    base = int(np.minimum(ones, zeros).sum())
    needed = scores - base
    top = int(needed.max())
    law, order, reach = np.zeros(top + 1), np.argsort(gaps, kind="stable"), 0
    law[0] = 1.0
    for gap, chance in zip(gaps[order].tolist(), chances[order].tolist(), strict=True):
        if gap == 0:
            continue
        moved = chance * law[: reach + 1]
        law[: reach + 1] *= 1 - chance  # not less moved, which would cancel
        stays = max(0, top - gap)  # those below it land below the top
        law[gap : gap + min(reach + 1, stays)] += moved[:stays]
        law[top] += moved[stays:].sum()
        reach = min(top, reach + gap)
    tails = np.cumsum(law[::-1])[::-1][needed]
    with np.errstate(divide="ignore"):
        logs = np.minimum(0.0, np.log(tails))
    if (tiny := tails < UNDERFLOW).any():
        logs[tiny] = _bounds(ones, zeros, code.biases, scores[tiny])
    return scores / FINENESS, logs


def named_by_and(observed: ArrayLike, code: BlockCode) -> NDArray[np.bool_]:
    """Users ``[users]`` who have a 1 wherever the AND of all copies has one; nobody where it is that of no such copies.

    A number counts as 1 above 1 - 1 / (2 (k - 1)), halfway between the mean of k - 1 ones and of one fewer. At most
    k - 1 copies whose mean or AND is observed name their users and nobody else: a block of another user meets each of
    theirs in one position, and so has a k-th outside of all of them. These have k (k - 1) = v - 1 zeros at most, so an
    AND without any 1, as a net without a row shows it, is not theirs; nor is one that more than k - 1 users fit.
    """
    seen = _checked(observed, code.positions)
    recovered = seen > 1 - 1 / (2 * code.colluders)
    named = (code.rows[:, recovered] == 1).all(1)
    return named & bool(recovered.any() and named.sum() <= code.colluders)


def _dealt(observed: NDArray[np.float64], code: BlockCode) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores and log p by the deal: an innocent's block is any of those that no colluder has, each alike likely."""
    weights = 2 * observed - 1
    scores = np.round((2.0 * code.blocks - 1) @ weights, 9)  # sums of one multiset tie in whatever order
    own = scores[list(code.deal)]
    above = (scores >= own[:, None]).sum(1)
    return own, np.minimum(0.0, np.log(above / (code.positions - code.colluders)))


def _summands(observed: NDArray[np.float64], biases: NDArray[np.float64]) -> tuple[NDArray[np.int64], ...]:
    """Sixteenths ``[m]`` that a 1 and a 0 of a row add to its score."""
    weights = FINENESS * (2 * observed - 1)
    odds = np.sqrt((1 - biases) / biases)
    return np.rint(weights * odds).astype(np.int64), np.rint(-weights / odds).astype(np.int64)


def _bounds(
    ones: NDArray[np.int64], zeros: NDArray[np.int64], biases: NDArray[np.float64], scores: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Chernoff's bound on log P(S >= score), the best of some exponents; each of them holds."""
    rates = TILTS / FINENESS
    moments = np.logaddexp(np.log(biases) + rates[:, None] * ones, np.log1p(-biases) + rates[:, None] * zeros).sum(1)
    return np.minimum(0.0, (moments[:, None] - rates[:, None] * scores).min(0))


def _checked(observed: ArrayLike, positions: int) -> NDArray[np.float64]:
    found = np.asarray(observed, np.float64)
    if found.shape != (positions,) or not bool(((found >= 0) & (found <= 1)).all()):
        raise UsageError(
            f"{positions} bits, or numbers in [0, 1], are needed, one for each position of the code; "
            f"given are {list(found.shape)}, or numbers outside of it"
        )
    return found
