"""A verdict by drawn labels: when it is settled, how small p may be, and that every draw and stop is paid for."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from scipy.stats import binom

from whorl.detection.design import Design
from whorl.detection.drawn import UNSEEN, DrawnTrial, least_count, log_floor
from whorl.detection.verdict import Trial
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


@pytest.mark.parametrize(
    ("choices", "count", "draws", "alpha"),
    [
        *((10, 2, 1, 0.02), (10, 3, 5, 0.01), (10, 2, 5, 0.1), (10, 4, 1, 0.0002)),
        *((4, 2, 2, 0.25), (2, 9, 1, 2**-8), (7, 3, 1, 2 / 343)),
    ],
)
def test_a_p_value_of_just_alpha_is_enough(choices, count, draws, alpha):
    """2 draws / C^n is alpha, and sums of logarithms may be a little more or less."""
    assert least_count(choices, alpha, draws) == count
    made = DrawnTrial(Design((0,) * count, choices, draws), alpha=alpha)
    made.update([1] * count)
    assert (told(made).decision, made.settled) == ("derived", True)
    assert told(made).p_value == pytest.approx(alpha)
    assert told(made).p_value <= alpha
    assert not any("can't be below" in each for each in told(made).caveats)
    low = DrawnTrial(Design((0,) * count, choices, draws), alpha=0.999 * alpha)
    low.update([1] * count)
    assert told(low).decision == "inconclusive"
    assert any("can't be below" in each for each in told(low).caveats)


def test_one_draw_is_counted_once_unless_more_are_told():
    assert log_floor(3, 10) == log_floor(3, 10, 1)
    assert least_count(10, 0.002) == 3


def test_draws_multiply_what_is_seen_before_everything_was_asked():
    once, often = (trial([1] * 4, draws=draws, budget=10) for draws in (1, 5))
    assert often.log_p == pytest.approx(once.log_p + math.log(5))
    assert once.log_p < 0


def test_a_budget_of_one_is_a_budget():
    made = trial([1], budget=1)
    assert (made.settled, told(made).queries) == (
        True,
        {"spent": 1, "budget": 1, "size": 20, "stopped_early": False},
    )


def test_a_verdict_by_draw_is_read_as_others_are():
    """Its null has the parts of any, and what was drawn."""
    of_population = Trial(None, size=1, alpha=0.05)
    of_population.update([1.0])
    other = of_population.verdict(scheme="", fingerprint="", suspect="")
    seen = told(trial([1] * 20, draws=3))
    assert set(seen.null) == {*other.null, "design"}
    assert set(seen.queries) == set(other.queries)
    assert seen.null["origin"] == "design"
    assert "of the draw of these labels" in seen.null["pool"]
    told_of = {name: seen.null["design"][name] for name in ("kind", "choices", "draws", "exact")}
    assert told_of == {"kind": "labels", "choices": 10, "draws": 3, "exact": False}
    assert "there is no draw" in seen.null["design"]["why"]


def test_what_is_seen_is_told_in_tenth_powers_and_what_is_not_as_no_sign():
    seen = told(trial([1] * 20))
    assert any("log10 p -19.7, times 1 draw" in each for each in seen.caveats)  # 2 / 10^20
    assert UNSEEN not in seen.caveats
    assert UNSEEN in told(trial([0] * 20)).caveats


def test_a_p_value_below_the_smallest_number_is_that():
    long = DrawnTrial(Design((0,) * 2000, 2, 1), alpha=0.01)
    long.update([1] * 2000)
    assert told(long).p_value == told(long).p_value_floor == sys.float_info.min
    some = DrawnTrial(Design((0,) * 1020, 2, 1), alpha=0.01)
    some.update([1] * 1020)
    assert told(some).p_value_floor == pytest.approx(2.0**-1019, rel=1e-9)
    assert told(trial([1], count=10, draws=10**12)).p_value_floor == 1.0
