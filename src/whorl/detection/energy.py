"""Are two groups of models alike as groups? The energy statistic of their distances, and its permutation p-value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from whorl.errors import UsageError
from whorl.metrics import Scores

__all__ = ["Energy", "energy_test"]


@dataclass(frozen=True)
class Energy:
    """``statistic`` = 2 ``between`` - ``within`` [0] - ``within`` [1], mean distances of pairs; about 0 if alike.

    ``p_value`` is exact, at least 1 / (rounds + 1), where under the hypothesis members are exchangeable.
    """

    statistic: float
    between: float
    within: tuple[float, float]
    p_value: float
    rounds: int


def energy_test(distances: ArrayLike, first: int, *, generator: np.random.Generator, rounds: int = 999) -> Energy:
    """Compare the first ``first`` members of ``distances`` with the others.

    Parameters:
        distances: ``[n, n]``, symmetric, at least 0.
        rounds: how often members are assigned to the groups anew.

    Raises:
        UsageError: no square of finite distances, or a group of fewer than two members.

    Source: Székely & Rizzo, *Testing for equal distributions in high dimension*, InterStat 2004, with means over pairs
    of different members, so that equal groups have the mean 0; Phipson & Smyth, 2010, for the p-value.
    """
    table: Scores = np.asarray(distances, dtype=np.float64)
    square = table.ndim == 2 and table.shape[0] == table.shape[1]
    if not square or not np.isfinite(table).all() or not np.allclose(table, table.T) or table.min() < 0:
        raise UsageError("distances are a symmetric table of finite numbers of at least 0, one row for each member")
    size = len(table)
    if min(first, size - first) < 2 or rounds < 1:
        raise UsageError(
            f"each group has two members or more, and there is a round; these are {first} and {size - first}"
        )
    members = np.zeros((rounds + 1, size))
    members[0, :first] = 1
    for row in members[1:]:
        row[generator.permutation(size)[:first]] = 1
    others = 1 - members
    off = table - np.diag(np.diag(table))
    inner, outer = ((group @ off * group).sum(1) for group in (members, others))
    cross = (members @ off * others).sum(1)
    within = inner / (first * (first - 1)), outer / ((size - first) * (size - first - 1))
    between = cross / (first * (size - first))
    statistics = 2 * between - within[0] - within[1]
    # Equal assignments may differ by rounding, and a tie counts against a finding.
    reached = int((statistics >= statistics[0] - 1e-12).sum())
    return Energy(
        statistic=float(statistics[0]),
        between=float(between[0]),
        within=(float(within[0][0]), float(within[1][0])),
        p_value=reached / (rounds + 1),
        rounds=rounds,
    )
