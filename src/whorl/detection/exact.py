"""Tails of the nulls that hold for any sample size, as natural logarithms: evidence from weights is far below 1e-300.

Each function returns log p with P(log p <= log t) <= t under its null, so that p-values may be combined.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from whorl.errors import UsageError

__all__ = ["bonferroni", "fisher", "log_binomial_tail", "log_fixed_points", "log_permutations", "log_poisson_tail"]


def log_binomial_tail(count: int, trials: int, chance: float = 0.5) -> float:
    """log P(K >= count) for K of ``trials`` coins, fair ones unless a ``chance`` is given; 0 where there are none."""
    _count("count", count, trials)
    if not 0 < chance < 1:
        raise UsageError(f"a coin's chance lies between 0 and 1: {chance}")
    odds = math.log(chance) - math.log1p(-chance)
    terms = (_log_choose(trials, each) + each * odds for each in range(count, trials + 1))
    return min(0.0, _log_sum(terms) + trials * math.log1p(-chance))


def log_fixed_points(fixed: int, rows: int, units: int) -> float:
    """log of the bound C(rows, fixed) / (units)_fixed on P(F >= fixed).

    F counts the ``rows`` i with a(i) = s(i), where a is any map into ``units`` things and s a uniformly random
    permutation of them: E[C(F, k)] is a sum over k-subsets of rows, each of which a uniform s meets with probability
    at most 1 / (units)_k (0 where a is not injective on it), and P(F >= k) <= E[C(F, k)]. The logarithm is 0 at F = 0.
    """
    _count("fixed", fixed, rows)
    if rows > units:
        raise UsageError(f"{rows} rows cannot be drawn from {units} units")
    orders = math.lgamma(units + 1) - math.lgamma(units - fixed + 1)
    return min(0.0, _log_choose(rows, fixed) - orders)


def log_poisson_tail(count: int, mean: float) -> float:
    """log P(K >= count) for K of a Poisson law. Its sum is taken term by term, so that it never underflows."""
    if count < 0 or mean < 0:
        raise UsageError(f"a count and its mean are not negative: {count}, {mean}")
    if count == 0:
        return 0.0
    if mean == 0:
        return -math.inf
    terms = range(count, count + 200 + int(4 * mean))
    return min(0.0, _log_sum(each * math.log(mean) - math.lgamma(each + 1) for each in terms) - mean)


def log_permutations(observed: float, drawn: Sequence[float]) -> float:
    """log of (1 + number of draws at least as large) / (1 + draws): exact, and never below 1 / (1 + draws)."""
    return math.log((1 + sum(value >= observed for value in drawn)) / (1 + len(drawn)))


def fisher(logs: Sequence[float]) -> float:
    """Fisher's combination of independent p-values: the tail of chi-squared with 2 n degrees, in closed form."""
    total = -math.fsum(logs)
    if not logs or total <= 0:
        return 0.0
    powers = range(len(logs))
    return min(0.0, _log_sum(each * math.log(total) - math.lgamma(each + 1) for each in powers) - total)


def bonferroni(logs: Sequence[float]) -> float:
    """The smallest p-value times their number: valid however they depend on each other."""
    return min(0.0, min(logs) + math.log(len(logs))) if logs else 0.0


def _log_choose(whole: int, part: int) -> float:
    return math.lgamma(whole + 1) - math.lgamma(part + 1) - math.lgamma(whole - part + 1)


def _log_sum(terms: Iterable[float]) -> float:
    """log of the sum of exp(term), where no exp(term) may be a number."""
    held = list(terms)
    largest = max(held)
    return largest + math.log(math.fsum(math.exp(term - largest) for term in held))


def _count(name: str, part: int, whole: int) -> None:
    if not 0 <= part <= whole:
        raise UsageError(f"{name} is {part}, which is not between 0 and {whole}")
