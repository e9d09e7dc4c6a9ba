"""The sampling level: what do the queries asked so far prove about all of them?"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from whorl.errors import UsageError
from whorl.metrics import Scores, as_scores

__all__ = ["SequentialMean", "wager"]

TIE: Final = 1e-7  # a level read back from a float32 file may be this much too low; a tie must not pass for an excess
NUDGE: Final = 1e-3  # how far a bet stays above its level when the values so far lie below it


def wager(matches: ArrayLike, seen: ArrayLike, chance: ArrayLike) -> Scores:
    """What to bet on a match after ``matches`` in ``seen`` queries, against a ``chance`` in (0, 1); above it, below 1.

    A shrunken running mean, which expects a copy: 1.6 matches in 2 on top of the neutral 1/2 in 1. Broadcasts.
    """
    guess = (np.asarray(matches, np.float64) + 2.1) / (np.asarray(seen) + 3)
    c = np.asarray(chance, np.float64)
    return np.maximum(guess, c + np.minimum(NUDGE, (1 - c) / 2))


class SequentialMean:
    """Bounds on the mean m of a finite list, valid at every moment while its values are revealed in random order.

    The list holds the similarity of the suspect for each query of the fingerprint; it is fixed before the first
    query, and the queries are asked in uniformly random order without replacement. One may look after every value and
    stop at will.

    Claim:
        P(at some time a level p >= m is called refuted) <= error, hence P(at some time lower > m) <= error.

    Proof sketch:
        Fix a level p >= m; let S be the total after t of n values. The next value x in [0, 1] has the conditional mean
        mu = (n m - S) / (n - t) <= c = (n p - S) / (n - t). For a bet q > c chosen before x is seen, the factor
        x q/c + (1 - x) (1 - q)/(1 - c) is linear in x, so its expectation is q mu/c + (1 - q) (1 - mu)/(1 - c): that
        increases with mu and is 1 at mu = c. The product of such factors is therefore a non-negative supermartingale
        that starts at 1, and exceeds 1/error at any time with probability at most error (Ville). Where c is not
        inside (0, 1) the factor is 1; n p < S never happens under m <= p, so it refutes p for certain.
        Levels are refuted from below without a gap. So to refute any true level (any p >= m), the smallest of them
        has to fall, and one application of Ville's inequality serves them all.

    Nothing here needs independent queries or values of 0 and 1 only. With ``error`` 0 only certainty refutes
    (curtailed sampling).

    Parameters:
        size: n, the length of the list.
        error: the chance of ever overstating m, in [0, 1).
        levels: ``[k]`` levels to test; by default 0, 1/n, ..., 1.

    Source: Waudby-Smith & Ramdas, *Confidence sequences for sampling without replacement*, NeurIPS 2020, and
    *Estimating means of bounded random variables by betting*, JRSS-B 2024; the bet is a shrunken running mean.
    """

    def __init__(self, size: int, error: float, *, levels: ArrayLike | None = None) -> None:
        if size < 1:
            raise UsageError(f"a fingerprint has at least one query; the size given is {size}")
        if not 0 <= error < 1:
            raise UsageError(f"the error of a sequential test lies in [0, 1); this is {error}")
        self.size = size
        self.error = error
        self.levels: Scores = np.arange(size + 1) / size if levels is None else np.unique(as_scores(levels, "levels"))
        self.asked = 0
        self.total = 0.0
        self._log_wealth = np.zeros_like(self.levels)
        self._log_peak = np.zeros_like(self.levels)

    def update(self, values: ArrayLike) -> None:
        """Reveal the next values, in the order in which they were drawn.

        That order decides, not the order of arrival: an endpoint that answers some queries faster than others must
        not choose what is seen first.

        Shape:
            values: ``[k]`` in [0, 1].

        Raises:
            UsageError: a value outside [0, 1], or more values than the list has.
        """
        new = as_scores(values, "per-query similarities", least=0)
        if len(new) > self.size - self.asked:
            raise UsageError(f"{self.asked + len(new)} values were revealed of a list of {self.size}")
        if len(new) == 0:
            return
        if new.min() < 0 or new.max() > 1:
            raise UsageError(f"per-query similarities lie in [0, 1]; these reach from {new.min():g} to {new.max():g}")
        path = self._log_wealth + np.cumsum(self._log_factors(new), axis=0)
        self._log_wealth = path[-1]
        self._log_peak = np.maximum(self._log_peak, path.max(axis=0))
        self.asked += len(new)
        self.total += float(new.sum())

    @property
    def lower(self) -> float:
        """m is at least this: except with probability ``error``, at all times together. Exact when all is asked."""
        return max(self.total / self.size, self.highest_refuted)

    @property
    def upper(self) -> float:
        """m is at most this, for certain: as if every value not yet revealed were 1."""
        return (self.total + self.size - self.asked) / self.size

    @property
    def highest_refuted(self) -> float:
        """m is above this level and all below it; -inf while none is refuted.

        A level that chance refuted falsely is restored once it is certain to be true, at the latest when all is asked.
        """
        refuted = self.total > self.size * (self.levels + TIE)
        if self.error:
            refuted |= self._log_peak >= -math.log(self.error)
        refuted &= self.levels + TIE < self.upper
        count = int(np.logical_and.accumulate(refuted).sum())
        return float(self.levels[count - 1]) if count else -math.inf

    def _log_factors(self, values: Scores) -> Scores:
        """Log growth of the wealth against each level at each step: ``[k]`` -> ``[k, levels]``."""
        seen = self.asked + np.arange(len(values))
        total = self.total + np.cumsum(values) - values
        left = (self.size - seen)[:, None]
        ceiling = (self.size * (self.levels + TIE) - total[:, None]) / left  # c: highest mean of the next value
        inside = (ceiling > 0) & (ceiling < 1)
        c = np.where(inside, ceiling, 0.5)
        q = wager(total[:, None], seen[:, None], c)
        x = values[:, None]
        return np.where(inside, np.log(x * q / c + (1 - x) * (1 - q) / (1 - c)), 0.0)
