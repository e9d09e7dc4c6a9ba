"""A watch of a stream: uniform p-values, alarms no more often than stated however long, and what breaks that."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kstest

from whorl.detection.streams import StreamWatch, rank_of_client
from whorl.errors import UsageError


def watch(benign, alpha=0.05, seed=0):
    return StreamWatch(benign, alpha, np.random.default_rng(seed))


def test_the_first_p_value_is_a_rank_and_the_wealth_a_mean_of_powers():
    found = watch([1.0, 2.0, 3.0])
    u = np.random.default_rng(0).random()
    found.update(2.5)
    p = (1 + u) / 4
    assert found.p_values == [pytest.approx(p)]
    powers = np.arange(1, 20) / 20
    assert found.log_wealth == pytest.approx(math.log(np.mean(powers * p ** (powers - 1))))
    again = watch([1.0, 2.0, 3.0])
    again.update(2.0)
    assert again.p_values == [pytest.approx((1 + 2 * u) / 4)]


def test_p_values_are_uniform_with_ties_and_without():
    for rounded in (False, True):
        chance, p = np.random.default_rng(1), []
        for seed in range(40):
            values = chance.normal(size=100)
            values = values.round() if rounded else values
            found = watch(values[:20], seed=seed)
            found.update(values[20:])
            p += found.p_values
        assert kstest(p, "uniform").pvalue > 1e-3


def test_exchangeable_streams_alarm_no_more_often_than_stated():
    """400 streams of 200 blocks, long beyond the 30 benign ones."""
    chance = np.random.default_rng(2)
    alarms = 0
    for seed in range(400):
        values = chance.exponential(size=230)
        found = watch(values[:30], 0.1, seed)
        found.update(values[30:])
        alarms += found.alarm is not None
    assert 0 < alarms <= 40 + 3 * math.sqrt(36)


def test_strange_streams_alarm_soon_and_the_alarm_stays():
    chance = np.random.default_rng(3)
    found = watch(chance.normal(size=100), 0.01)
    found.update(chance.normal(size=20))
    assert found.alarm is None
    found.update(chance.normal(5, size=20))
    assert found.alarm is not None
    assert 20 < found.alarm <= 26
    kept, peak = found.alarm, found.log_peak
    found.update(chance.normal(-5, size=50))
    assert (found.alarm, found.log_peak) == (kept, peak)
    assert found.log_wealth < peak
    in_blocks = watch(np.arange(5.0), seed=9)
    one_by_one = watch(np.arange(5.0), seed=9)
    in_blocks.update([1, 7, 3])
    for value in (1, 7, 3):
        one_by_one.update(value)
    assert in_blocks.log_wealth == one_by_one.log_wealth


def test_clients_who_differ_break_it_and_ranks_of_clients_do_not():
    """Each client has a level of their own, so that blocks of one client are alike."""
    chance = np.random.default_rng(4)
    alarms, low = 0, 0
    for seed in range(150):
        clients = chance.normal(size=(20, 1)) + 0.3 * chance.normal(size=(20, 30))
        found = watch(clients[1:].ravel(), 0.05, seed)
        found.update(clients[0])
        alarms += found.alarm is not None
        low += rank_of_client(clients[0].mean(), clients[1:].mean(1).tolist()) <= 0.05
    assert alarms > 2 * 7.5
    assert low <= 7.5 + 4 * math.sqrt(7.5)


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="at least one"):
        watch([])
    with pytest.raises(UsageError, match="finite"):
        watch([math.nan])
    with pytest.raises(UsageError, match="alpha"):
        watch([1.0], 1.0)
    with pytest.raises(UsageError, match="finite"):
        watch([1.0]).update([[1.0]])


def test_before_any_block_nothing_is_won():
    found = watch([1.0, 2.0])
    assert (found.log_peak, found.alarm) == (0.0, None)
    assert found.log_wealth == pytest.approx(0, abs=1e-12)
    for alpha in (0.0, 1.0):
        with pytest.raises(UsageError, match="alpha"):
            watch([1.0], alpha=alpha)
