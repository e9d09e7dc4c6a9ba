"""What would the test have caught? Power against each removal, measured on copies whose origin is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from whorl.detection.population import Plan
from whorl.detection.sequential import SequentialMean
from whorl.metrics import Scores, as_scores, clopper_pearson

__all__ = ["MOST_MISSED", "copies_needed", "measure_power", "measured", "queries_for_a_copy"]

MOST_MISSED: Final = 0.2  # a removal counts as excluded where a copy of it is missed at most so often
CONFIDENCE: Final = 0.95  # of the bounds of all removals together

ORDERS: Final = 200  # simulated random orders for each similarity
RELIABLY: Final = 0.95  # a copy counts as caught when at least this share of the orders catches it


def measure_power(
    derived: Mapping[str, Sequence[float]], null: ArrayLike, plan: Plan, *, size: int, budget: int
) -> dict[str, dict[str, float]]:
    """Share of copies that the very test of ``plan`` flags, for each removal, with an exact 95 % interval.

    ``missed_at_most`` bounds the chance that a copy of the removal is missed: exact upper bounds, which hold for all
    removals together with 95 % confidence (Clopper-Pearson, Bonferroni).

    With every query asked the answer is exact: a similarity above the threshold. With a smaller budget chance decides
    which queries are asked, so a copy is caught when it is flagged in 95 % of 200 simulated orders of a list of 0 and
    1 with its similarity as mean. The simulation is seeded: the same calibration has the same power.

    Parameters:
        derived: similarities of copies by removal, measured on the whole fingerprint.
        null: ``[N]``, the similarities that ``plan`` was made from.
    """
    flags = _exactly(plan) if budget >= size or not plan.sufficient else _in_most_orders(null, plan, size, budget)
    return {
        removal: measured(sum(map(flags, copies)), len(copies), len(derived)) for removal, copies in derived.items()
    }


def copies_needed(removals: int) -> int:
    """Fewest copies of each removal that bound the chance of a miss by `MOST_MISSED` when all of them are caught."""
    return math.ceil(math.log((1 - CONFIDENCE) / removals) / math.log(1 - MOST_MISSED))


def queries_for_a_copy(null: ArrayLike, plan: Plan, *, size: int) -> int | None:
    """Fewest queries after which a perfect copy is called derived; None if even all of them are not enough."""
    mean = SequentialMean(size, plan.sampling_error, levels=as_scores(null, "null similarities"))
    while mean.asked < size:
        mean.update([1.0])
        if mean.highest_refuted >= plan.threshold:
            return mean.asked
    return None


def measured(caught: int, copies: int, removals: int) -> dict[str, float]:
    """Share of copies of one removal that were caught, with its bounds; see `measure_power`.

    Parameters:
        removals: how many removals are measured, for the bound that holds for all of them together.
    """
    interval = clopper_pearson(caught, copies)
    # One-sided: a two-sided interval of twice the error has this bound.
    missed = clopper_pearson(copies - caught, copies, 1 - 2 * (1 - CONFIDENCE) / removals).high
    return {
        "copies": copies,
        "caught": caught,
        "power": caught / copies if copies else 0.0,
        "low": interval.low,
        "high": interval.high,
        "missed_at_most": missed,
    }


def _exactly(plan: Plan) -> Callable[[float], bool]:
    return lambda similarity: similarity > plan.threshold


def _in_most_orders(null: ArrayLike, plan: Plan, size: int, budget: int) -> Callable[[float], bool]:
    levels = as_scores(null, "null similarities")
    known: dict[int, bool] = {}

    def flags(similarity: float) -> bool:
        ones = round(similarity * size)
        if ones not in known:
            known[ones] = _flagged_in_most_orders(ones, levels, plan, size, budget)
        return known[ones]

    return flags


def _flagged_in_most_orders(ones: int, levels: Scores, plan: Plan, size: int, budget: int) -> bool:
    generator = np.random.default_rng(ones)
    values = (np.arange(size) < ones).astype(np.float64)
    misses = 0
    for _ in range(ORDERS):
        mean = SequentialMean(size, plan.sampling_error, levels=levels)
        mean.update(generator.permutation(values)[:budget])
        misses += mean.highest_refuted < plan.threshold
        if misses > ORDERS * (1 - RELIABLY):
            return False
    return True
