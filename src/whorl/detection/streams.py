"""Watching a stream for ever at a stated rate: bets on conformal p-values of its blocks.

A stream is cut into blocks, each of which gives one number: larger is stranger. A block's p-value is its rank among the
blocks of benign streams and all earlier blocks of its own. If all of these are exchangeable, the p-values are
independent and uniform, however many there are, and a bet that pays f(p) with mean 1 keeps the expected wealth at 1.
So the wealth ever reaches 1/alpha with probability at most alpha (Ville), with no end of the watch to be fixed.

What breaks it: clients who differ. One who asks about one class only has blocks that resemble each other more than
those of others, so they are not exchangeable with them, and alarms are more frequent than alpha. The rank of a whole
client among whole clients (`rank_of_client`) needs only that clients are exchangeable, and is not below 1/(N + 1).

Source: Vovk, Gammerman & Shafer, *Algorithmic Learning in a Random World*, 2005, section 7.1 (power martingales and
their mixture); Ville, 1939.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from whorl.detection.exact import log_permutations
from whorl.errors import UsageError

__all__ = ["StreamWatch", "rank_of_client"]

POWERS: Final = np.linspace(0.05, 0.95, 19)  # e of the bets e p^(e - 1)


class StreamWatch:
    """The state of one watch.

    The wealth is the mean over e = .05, .10, ..., .95 of the products of e p^(e - 1).

    Parameters:
        benign: ``[n]``, the numbers of benign blocks.
        alpha: the chance that a stream that is exchangeable with them ever raises an alarm.
        generator: breaks ties, so that p-values are uniform and not only no smaller.

    Attributes:
        alarm: how many blocks had been seen when the wealth reached 1/alpha; None where it has not.

    Raises:
        UsageError: no benign block, a number that is none, or alpha outside (0, 1).
    """

    def __init__(self, benign: ArrayLike, alpha: float, generator: np.random.Generator) -> None:
        self._seen = np.sort(_numbers(benign, "benign blocks"))
        if not len(self._seen):
            raise UsageError("blocks are ranked among those of benign streams: give at least one")
        if not 0 < alpha < 1:
            raise UsageError(f"alpha lies between 0 and 1, as 0.01; this is {alpha}")
        self.alpha = alpha
        self.alarm: int | None = None
        self.p_values: list[float] = []
        self._chance: Any = cast(Any, generator)
        self._logs = np.zeros(len(POWERS))
        self._log_peak = 0.0

    @property
    def log_wealth(self) -> float:
        """The natural logarithm of the wealth as of now."""
        return float(np.logaddexp.reduce(self._logs)) - math.log(len(POWERS))

    @property
    def log_peak(self) -> float:
        """That of the largest wealth so far, at least 0; exp(-it) is an upper bound on p at any time."""
        return self._log_peak

    def update(self, values: ArrayLike) -> None:
        """See the next blocks ``[k]``, in order."""
        for value in _numbers(values, "blocks").tolist():
            left, right = int((self._seen < value).sum()), int((self._seen <= value).sum())
            ties, upto = right - left + 1, len(self._seen)
            p = (upto - right + float(self._chance.random()) * ties) / (upto + 1)
            p = max(p, 1e-300)  # a draw of exactly 0
            self._seen = np.insert(self._seen, right, value)
            self.p_values.append(p)
            self._logs += np.log(POWERS) + (POWERS - 1) * math.log(p)
            self._log_peak = max(self._log_peak, self.log_wealth)
            if self.alarm is None and self._log_peak >= -math.log(self.alpha):
                self.alarm = len(self.p_values)


def rank_of_client(statistic: float, benign: Sequence[float]) -> float:
    """(1 + how many benign clients are at least as strange) / (1 + how many there are), in (0, 1].

    Exact where the client is exchangeable with them. Larger is stranger.
    """
    return math.exp(log_permutations(statistic, benign))


def _numbers(values: ArrayLike, what: str) -> NDArray[np.float64]:
    found = np.atleast_1d(np.asarray(values, np.float64))
    if found.ndim != 1 or not bool(np.isfinite(found).all()):
        raise UsageError(f"{what} are a list of finite numbers; these have the shape {list(found.shape)}, or are none")
    return found
