"""A verdict by drawn labels: when it is settled, how small p may be, and that every draw and stop is paid for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from whorl.detection.design import Design
from whorl.detection.drawn import DrawnTrial, least_count, log_floor
from whorl.errors import UsageError


def trial(matches, *, count=20, choices=10, draws=1, alpha=0.01, budget=None):
    """After ``matches``, each 1 or 0."""
    made = DrawnTrial(Design(tuple(range(choices)) * (count // choices), choices, draws), alpha=alpha, budget=budget)
    made.update(matches)
    return made


def told(made):
    return made.verdict(scheme="backdoor", fingerprint="f", suspect="s")


@pytest.mark.parametrize(("choices", "tries", "alpha"), [(10, 1, 0.01), (10, 7, 1e-6), (2, 3, 0.05), (100, 5, 0.1)])
def test_the_least_count_is_the_first_that_can_reach_alpha(choices, tries, alpha):
    count = least_count(choices, alpha, tries)
    assert math.exp(log_floor(count, choices, tries)) <= alpha < math.exp(log_floor(count - 1, choices, tries))
    assert math.exp(log_floor(3, choices, tries)) == pytest.approx(2 * tries / choices**3)


@pytest.mark.parametrize("draws", [1, 5])
def test_once_all_is_asked_p_is_twice_the_tail_times_the_draws(draws):
    for matches in (2, 5, 20):
        made = trial([1] * matches + [0] * (20 - matches), draws=draws)
        tail = 2 * draws * binom.sf(matches - 1, 20, 0.1)
        assert math.exp(made.log_p) <= min(1.0, tail) * (1 + 1e-9)
        assert told(made).p_value == pytest.approx(math.exp(made.log_p))
    assert math.exp(trial([1] * 20, draws=draws).log_p) == pytest.approx(2 * draws * 0.1**20)
    assert trial([], draws=draws).log_p == 0.0
    assert trial([0] * 20, draws=draws).log_p == 0.0


def test_the_tail_counts_only_once_everything_was_asked():
    """Before, only the e-value does, which may be looked at whenever one likes."""
    short = trial([0] * 14 + [1] * 5, budget=19)
    assert short.log_p > trial([0] * 14 + [1] * 5 + [0]).log_p
    assert (short.settled, told(short).queries["stopped_early"]) == (True, False)


def test_it_is_settled_by_evidence_or_by_the_budget_and_not_before():
    assert not trial([1]).settled
    early = trial([1] * 8, alpha=0.01)
    assert early.settled
    assert (told(early).decision, told(early).queries["stopped_early"]) == ("derived", True)
    nothing = trial([0] * 20)
    assert nothing.settled
    assert (told(nothing).decision, told(nothing).queries["stopped_early"]) == ("inconclusive", False)


def test_strangers_are_called_derived_no_more_often_than_alpha():
    generator, alpha, called = np.random.default_rng(0), 0.1, 0
    for _ in range(2000):
        made = DrawnTrial(Design(tuple(range(10)) * 2, 10, 1), alpha=alpha)
        for match in generator.random(20) < 0.1:
            if made.settled:
                break
            made.update([float(match)])
        called += made.log_p <= math.log(alpha)
    assert 0 < called <= 2000 * alpha + 3 * math.sqrt(2000 * alpha * (1 - alpha))


def test_what_a_verdict_says():
    few = told(trial([1, 0] * 5, count=10, draws=3, alpha=1e-12))
    assert any("p can't be below 6e-10" in each and "at alpha 1e-12" in each for each in few.caveats)
    assert any("times 3 draws" in each for each in few.caveats)
    assert few.p_value_floor == pytest.approx(6e-10)
    assert few.null["design"]["matches"] == 5
    assert few.null["design"]["of"] == 10
    assert few.null["design"]["log10_p"] == pytest.approx(math.log10(few.p_value))
    assert (few.null["siblings"], few.null["size"], few.similarity) == (0, 0, 0.5)
    able = told(trial([1] * 20))
    assert not any("can't be below" in each for each in able.caveats)
    assert any("times 1 draw" in each and "draws" not in each for each in able.caveats)


def test_what_is_no_match_is_refused():
    with pytest.raises(UsageError, match="matched or not"):
        trial([0.5])
    with pytest.raises(UsageError, match="on a budget of 3"):
        trial([1] * 4, budget=3)
    with pytest.raises(UsageError, match="at least one query"):
        trial([], budget=0)
    for alpha in (0.0, 1.0):
        with pytest.raises(UsageError, match="between 0 and 1"):
            trial([], alpha=alpha)
    with pytest.raises(UsageError, match="no query was answered"):
        told(trial([]))
