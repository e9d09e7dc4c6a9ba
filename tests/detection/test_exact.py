"""Tails against brute force and against scipy where scipy reaches."""

from __future__ import annotations

import math
from itertools import pairwise, permutations, product

import numpy as np
import pytest
from scipy import stats

from whorl.detection.exact import (
    bonferroni,
    fisher,
    log_binomial_tail,
    log_fixed_points,
    log_permutations,
    log_poisson_tail,
)
from whorl.errors import UsageError


def test_signs_are_the_binomial_tail():
    for trials in (1, 7, 40):
        for agreements in range(trials + 1):
            for chance in (0.5, 0.2, 0.97):
                expected = stats.binom.sf(agreements - 1, trials, chance)
                assert math.exp(log_binomial_tail(agreements, trials, chance)) == pytest.approx(expected)
            assert log_binomial_tail(agreements, trials) == log_binomial_tail(agreements, trials, 0.5)
    assert log_binomial_tail(0, 0) == 0
    assert log_binomial_tail(3000, 3000) == pytest.approx(-3000 * math.log(2))
    assert log_binomial_tail(20_000, 30_000) < -1500


def test_the_bound_on_fixed_points_holds_for_every_map_and_count():
    """Brute force over all permutations, and over all maps of the rows where that is few enough."""
    checked = 0
    for units in range(1, 6):
        for rows in range(1, units + 1):
            maps = list(product(range(units), repeat=rows))
            for chosen in maps[:: max(1, len(maps) // 60)]:
                fixed = [sum(chosen[i] == s[i] for i in range(rows)) for s in permutations(range(units))]
                for count in range(rows + 1):
                    share = np.mean([each >= count for each in fixed])
                    assert share <= math.exp(log_fixed_points(count, rows, units)) + 1e-12
                    checked += 1
    assert checked > 1500


def test_the_bound_falls_with_the_count():
    for rows, units in ((5, 5), (64, 11008), (100, 101)):
        values = [log_fixed_points(count, rows, units) for count in range(rows + 1)]
        assert values[0] == 0
        assert all(after <= before for before, after in pairwise(values))
    assert log_fixed_points(64, 64, 11008) / math.log(10) < -258
    assert log_fixed_points(6, 6, 6) == pytest.approx(-math.log(720))


def test_poisson_is_scipys_where_scipy_reaches():
    for mean in (0.3, 3.0, 80.0):
        for count in (0, 1, 5, 90, 200):
            expected = stats.poisson.sf(count - 1, mean)
            assert math.exp(log_poisson_tail(count, mean)) == pytest.approx(expected, rel=1e-6, abs=1e-300)
    assert log_poisson_tail(1000, 1.0) == pytest.approx(-1 - math.lgamma(1001), rel=1e-3)
    assert log_poisson_tail(1, 0.0) == -math.inf


def test_fisher_is_scipys_where_scipy_reaches():
    chance = np.random.default_rng(0)
    for count in (1, 2, 9):
        values = chance.uniform(size=count)
        expected = stats.combine_pvalues(values, method="fisher").pvalue
        assert math.exp(fisher(np.log(values).tolist())) == pytest.approx(expected)
    assert fisher([]) == fisher([0.0, 0.0]) == 0
    assert fisher([-500.0] * 8) < -3900


def test_permutations_and_bonferroni():
    assert math.exp(log_permutations(0.5, [0.1, 0.5, 0.9])) == pytest.approx(3 / 4)
    assert math.exp(log_permutations(2.0, [0.0] * 99)) == pytest.approx(1 / 100)
    assert bonferroni([-10.0, 0.0]) == pytest.approx(-10 + math.log(2))
    assert bonferroni([0.0, -0.1]) == 0
    assert bonferroni([]) == 0


def test_impossible_counts_are_refused():
    for wrong in (
        lambda: log_binomial_tail(3, 2),
        lambda: log_fixed_points(1, 3, 2),
        lambda: log_poisson_tail(-1, 1.0),
    ):
        with pytest.raises(UsageError):
            wrong()


def test_a_coin_that_always_falls_alike_is_refused():
    for chance in (0.0, 1.0, 1.5, -0.1):
        with pytest.raises(UsageError, match="between 0 and 1"):
            log_binomial_tail(1, 2, chance)


def test_no_rounding_makes_a_chance_larger_than_1():
    for size in range(1, 300):
        assert all(log_binomial_tail(0, size, chance) <= 0 for chance in (0.01, 0.3, 0.5, 0.9))
        assert log_fixed_points(1, size, size) <= 0
        assert log_poisson_tail(1, 40 + size) <= 0
        assert fisher([-0.01 / size] * size) <= 0


def test_poisson_of_a_large_mean_is_scipys():
    for count in (2000, 2900, 3000, 3200):
        assert log_poisson_tail(count, 3000.0) == pytest.approx(float(stats.poisson.logsf(count - 1, 3000.0)), abs=1e-9)
