"""Rules that a person can read: conjunctions of bounds on named features."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bound", "Flags", "Rule", "Table", "overlap"]

Table = NDArray[np.float64]  # [n, features]
Flags = NDArray[np.bool_]  # [n]


@dataclass(frozen=True, order=True)
class Bound:
    """``low < feature <= high``, with an infinity where one side is open."""

    feature: int
    low: float = -math.inf
    high: float = math.inf

    def describe(self, names: Sequence[str]) -> str:
        """As in ``0.2 < mean radius <= 0.5``."""
        name = names[self.feature]
        if math.isinf(self.low):
            return f"{name} <= {self.high:.3g}"
        if math.isinf(self.high):
            return f"{name} > {self.low:.3g}"
        return f"{self.low:.3g} < {name} <= {self.high:.3g}"


@dataclass(frozen=True)
class Rule:
    """All bounds hold. At most one bound for each feature, ordered by feature; none holds everywhere."""

    bounds: tuple[Bound, ...]

    @classmethod
    def all_of(cls, bounds: Iterable[Bound]) -> Rule:
        """The rule that all bounds hold; several of one feature become their intersection."""
        joined: dict[int, Bound] = {}
        for bound in bounds:
            known = joined.get(bound.feature, Bound(bound.feature))
            joined[bound.feature] = Bound(bound.feature, max(known.low, bound.low), min(known.high, bound.high))
        return cls(tuple(sorted(joined.values())))

    def covers(self, values: Table) -> Flags:
        """Which rows of ``values`` ``[n, features]`` it holds for, ``[n]``."""
        held = np.ones(len(values), dtype=bool)
        for bound in self.bounds:
            column = values[:, bound.feature]
            held &= (column > bound.low) & (column <= bound.high)
        return held

    def describe(self, names: Sequence[str]) -> str:
        """Bounds joined by ``and``."""
        return " and ".join(bound.describe(names) for bound in self.bounds) or "always"

    def __len__(self) -> int:
        return len(self.bounds)


def overlap(first: Rule, second: Rule, values: Table) -> float:
    """How alike two rules are, in [0, 1]: half what they cover, half what they say.

    What they cover is the Jaccard index over ``values``. What they say is the mean over the features of either of the
    overlap of both intervals, as a share of their union within the range of the data.

    Source: after Nair et al., IJCAI 2021, where statistical and semantic similarity are combined.
    """
    one, other = first.covers(values), second.covers(values)
    union = int((one | other).sum())
    statistical = int((one & other).sum()) / union if union else 1.0
    bounds = [{bound.feature: bound for bound in rule.bounds} for rule in (first, second)]
    features = bounds[0].keys() | bounds[1].keys()
    shares = [_interval_overlap(bounds[0].get(key), bounds[1].get(key), values[:, key]) for key in features]
    semantic = sum(shares) / len(shares) if shares else 1.0
    return (statistical + semantic) / 2


def _interval_overlap(first: Bound | None, second: Bound | None, column: NDArray[np.float64]) -> float:
    if first is None or second is None:
        return 0.0  # a feature that only one of them names is a difference of its own
    least, most = float(column.min()), float(column.max())
    lows = [max(bound.low, least) for bound in (first, second)]
    highs = [min(bound.high, most) for bound in (first, second)]
    union = max(highs) - min(lows)
    return max(0.0, min(highs) - max(lows)) / union if union > 0 else 1.0
