"""Numbers of classes to a verdict: by hand, and under a null of which everything is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from whorl.detection.trojans import (
    BLIND,
    MAD_BOUND,
    culprit_of,
    gamma_p_value,
    log_ratio,
    mad_index,
    trojan_verdict,
)
from whorl.errors import UsageError


def test_by_hand():
    small, large = [4.0, 5.0, 1.0, 6.0, 5.0], [4.0, 5.0, 20.0, 6.0, 5.0]
    assert culprit_of(small, "small") == culprit_of(large, "large") == 2
    assert log_ratio(small, "small") == pytest.approx(math.log(5))
    assert log_ratio(large, "large") == pytest.approx(math.log(4))
    assert mad_index(small, "small") == pytest.approx(4 / 1.4826)
    assert mad_index(large, "large") == pytest.approx(15 / 1.4826)
    assert mad_index(small, "large") == pytest.approx(1 / 1.4826)
    assert mad_index([2.0, 2.0, 2.0], "small") == 0
    assert mad_index([2.0, 2.0, 2.0, 1.0], "small") == math.inf
    assert log_ratio([0.0, 1e-9, 1e-5], "small") == 0


def test_the_rank_accuses_one_clean_net_in_twenty_and_the_rule_of_two_mad_far_more():
    chance, alarms, by_mad = np.random.default_rng(5), 0, 0
    for _ in range(400):
        scores = chance.lognormal(size=(20, 10))
        clean = [log_ratio(each, "small") for each in scores[1:]]
        verdict = trojan_verdict(scores[0], "small", clean, alpha=0.05, statistic="s", chooser="user")
        alarms += verdict.decision == "trojaned"
        by_mad += mad_index(scores[0], "large") > 2
    assert alarms <= 33  # of 400 at .05: beyond it lies a chance of one in 400
    assert by_mad > 100


def test_gamma_sees_an_outlier_and_little_else():
    chance = np.random.default_rng(6)
    usual = chance.gamma(9.0, size=10)
    assert gamma_p_value([*usual[:-1], 200.0]) < 1e-3 < gamma_p_value(usual)


@pytest.mark.parametrize(
    ("clean", "alpha", "says"),
    [([0.1] * 18, 0.05, "at least 19"), ([0.1] * 19, 0.0, "alpha is a chance"), ([0.1] * 19, 1.5, "alpha is a chance")],
)
def test_mistakes(clean, alpha, says):
    with pytest.raises(UsageError, match=says):
        trojan_verdict([1.0, 2.0, 3.0], "small", clean, alpha=alpha, statistic="s", chooser="user")


def test_ties_count_against_the_accusation_and_a_small_null_says_so():
    scores = [1.0, 5.0, 5.0]
    tied = [log_ratio(scores, "small")] + [0.0] * 18
    verdict = trojan_verdict(scores, "small", tied, alpha=0.05, statistic="s", chooser="whorl", made="train(mlp, d)")
    assert (verdict.decision, verdict.p_value) == ("inconclusive", 2 / 20)
    assert "that whorl trained from train(mlp, d)" in verdict.rests_on
    few = trojan_verdict(scores, "small", [0.0] * 19, alpha=0.01, statistic="s", chooser="user")
    assert few.decision == "inconclusive"
    assert any("can't be below 0.05" in each for each in few.caveats)


def verdict_of(clean, *, worse="small", alpha=0.05, caveats=()):
    scores = [4.0, 5.0, 1.0, 6.0, 5.0]
    return trojan_verdict(scores, worse, clean, alpha=alpha, statistic="s", chooser="user", caveats=caveats)


def test_the_published_bound_and_that_indices_have_no_unit():
    assert MAD_BOUND == 2.0  # Wang et al., S&P 2019, section IV-B
    scores = np.array([4.0, 5.0, 1.0, 6.0, 5.0])
    assert mad_index(scores / 1000, "small") == pytest.approx(mad_index(scores, "small"))
    assert gamma_p_value(scores / 1000) == pytest.approx(gamma_p_value(scores), rel=1e-3)


def test_gamma_where_a_distribution_cannot_be_fitted_and_where_it_can():
    """All equal shows nothing, and anything above all others that are equal is out of their law."""
    assert gamma_p_value([2.0] * 4) == 1.0
    assert gamma_p_value([2.0, 5.0, 2.0, 2.0]) == 0.0
    for scores in ([1.0, 1.0, 2.0, 5.0], [1.0, 2.0, 2.0, 5.0], [1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0], [0.1, 0.2, 0.3]):
        assert 0 < gamma_p_value(scores) < 1
    usual = [3.0, 4.0, 5.0, 6.0]
    assert gamma_p_value([*usual, 7.0, 30.0]) < gamma_p_value([*usual, 25.0, 30.0])
    with pytest.raises(UsageError, match="at least 3"):
        gamma_p_value([1.0, 2.0])


def test_one_class_has_no_median_to_lie_apart_from():
    assert log_ratio([1.0, 4.0], "small") == pytest.approx(math.log(4) / 2)
    assert mad_index([1.0, 4.0], "small") == pytest.approx(1 / 1.4826)
    for figure in (log_ratio, mad_index, culprit_of):
        with pytest.raises(UsageError, match="at least 2"):
            figure([1.0], "small")


def test_a_rank_of_just_alpha_accuses_and_says_nothing_of_what_it_cannot():
    verdict = verdict_of([0.0] * 19)
    assert (verdict.decision, verdict.p_value, verdict.p_value_floor, verdict.clean) == ("trojaned", 0.05, 0.05, 19)
    assert verdict.caveats == (BLIND,)
    assert "and on their word" in verdict.rests_on
    clean = verdict_of([9.0] * 19)
    assert (clean.decision, clean.p_value) == ("inconclusive", 1.0)
    assert any("does not show that a net is clean" in each for each in clean.caveats)


def test_without_clean_nets_there_are_scores_and_no_verdict():
    verdict = verdict_of([], caveats=("measured on few pictures",))
    assert (verdict.decision, verdict.p_value, verdict.p_value_floor, verdict.clean) == (None, None, None, 0)
    assert "no clean nets" in verdict.caveats[0]
    assert verdict.caveats[1:] == ("measured on few pictures", BLIND)
    with pytest.raises(UsageError, match="at least 19"):
        verdict_of([0.1])
    with pytest.raises(UsageError, match="alpha is a chance"):
        verdict_of([0.1] * 19, alpha=1.0)


def test_the_index_is_that_of_the_papers_for_the_direction():
    assert verdict_of([]).index == {"mad": pytest.approx(4 / 1.4826)}
    large = verdict_of([], worse="large").index
    assert large["gamma_p"] == gamma_p_value([4.0, 5.0, 1.0, 6.0, 5.0])
    assert set(large) == {"mad", "gamma_p"}
