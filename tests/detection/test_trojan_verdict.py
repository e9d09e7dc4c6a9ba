"""Numbers of classes to a verdict: by hand, and under a null of which everything is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from whorl.detection.trojans import culprit_of, gamma_p_value, log_ratio, mad_index, trojan_verdict
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
