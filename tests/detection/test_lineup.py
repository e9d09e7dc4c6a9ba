"""The lineup's statistics never learn who the victim is, keep their error, and stop as they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whorl.detection.lineup import (
    Race,
    agreement_scores,
    clumped,
    expected_scores,
    levelled,
    mixture_scores,
    outermost,
    rank,
    residual_scores,
    standardised,
)
from whorl.errors import UsageError

K, Q, CLASSES = 6, 40, 4


def candidates(seed):
    logits = np.random.default_rng(seed).normal(size=(K, Q, CLASSES)) * 2
    chances = np.exp(logits)
    return chances / chances.sum(2, keepdims=True)


def given_to(chances, labels):
    return np.take_along_axis(chances, labels[None, :, None].repeat(len(chances), 0), 2)[:, :, 0]


def mixture(chances, labels):
    return standardised(mixture_scores(given_to(chances, labels)).sum(1), *expected_scores(chances))


STATISTICS = {
    "mixture": mixture,
    "agreement": lambda chances, labels: agreement_scores(chances.argmax(2), labels).sum(1),
    "residual": lambda chances, labels: residual_scores(np.log(chances), np.eye(CLASSES)[labels]),
    "levelled": lambda chances, labels: level(np.log(chances), np.eye(CLASSES)[labels]),
    "race": lambda chances, labels: raced(mixture_scores(given_to(chances, labels)), 2.0).totals,
}


def level(known, answers):
    mean = known.mean(0)
    return residual_scores(levelled(known, mean), levelled(answers, mean))


def raced(scores, margin):
    race = Race(len(scores), margin)
    race.update(scores)
    return race


@pytest.mark.parametrize("name", STATISTICS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_no_statistic_knows_its_rows(name, seed):
    generator = np.random.default_rng(seed)
    chances, labels = candidates(seed), generator.integers(CLASSES, size=Q)
    order = generator.permutation(K)
    np.testing.assert_allclose(
        STATISTICS[name](chances[order], labels), STATISTICS[name](chances, labels)[order], atol=1e-9
    )


def test_whoever_gave_the_answers_comes_first():
    chances = candidates(0)
    for name in ("mixture", "agreement", "race"):
        totals = STATISTICS[name](chances, chances[2].argmax(1))
        assert rank(totals, 2) == 1, name
    assert rank(residual_scores(np.log(chances), np.log(chances[2])), 2) == 1


def test_a_copy_that_is_surer_of_all_and_of_some_classes_names_its_source():
    """Candidates that share most, as runs of a last stage do, and differ a little in how sure they are."""
    ranks = {residual_scores: [], level: []}
    for seed in range(30):
        generator = np.random.default_rng(seed)
        sure = 1 + 0.1 * generator.normal(size=(K, 1, 1))
        known = sure * (generator.normal(size=(Q, CLASSES)) + 0.1 * generator.normal(size=(K, Q, CLASSES)))
        copy = 0.6 * known[2] + 0.3 * generator.normal(size=CLASSES) + 0.05 * generator.normal(size=(Q, CLASSES))
        for statistic, found in ranks.items():
            found.append(rank(statistic(known, copy), 2))
    assert sum(found == 1 for found in ranks[level]) >= 29
    assert sum(found == 1 for found in ranks[residual_scores]) <= 15


@pytest.mark.parametrize("name", STATISTICS)
def test_a_stranger_names_the_victim_at_the_stated_rate_and_no_more(name):
    wins = 0
    for seed in range(600):  # a draw of victim and twins each
        labels = np.random.default_rng([seed, 1]).integers(CLASSES, size=Q)
        wins += rank(STATISTICS[name](candidates(seed), labels), 0) == 1
    # A binomial with the rate 1/6 lies below 130 of 600 but for once in 1,000.
    assert wins <= 130


def test_ties_count_against_the_claim():
    assert rank([1.0, 1.0, 0.0], 0) == 2
    assert rank([1.0, 1.0, 1.0], 2) == 3
    assert rank([2.0, 1.0, 1.0], 0) == 1


def test_the_score_is_the_logarithm_of_a_mixture_and_one_answer_costs_at_most_log_2():
    scores = mixture_scores([[0.8, 0.0], [0.2, 0.0], [0.5, 0.9]])
    assert scores[0, 0] == pytest.approx(np.log(0.5 * 0.8 / 0.5 + 0.5))
    assert scores.min() == pytest.approx(-np.log(2))


def test_what_is_expected_is_the_mean_over_the_answers_of_all_candidates():
    chances = candidates(3)
    expected, variance = expected_scores(chances)
    by_hand = sum(chances.mean(0)[:, label] * mixture_scores(chances[:, :, label]) for label in range(CLASSES))
    np.testing.assert_allclose(expected, by_hand)
    assert (variance >= 0).all()


def test_the_race_stops_when_anybody_leads_and_takes_no_more():
    scores = np.zeros((3, 10))
    scores[1] = 1
    race = raced(scores, 4.0)
    assert (race.asked, race.won, race.lead) == (4, True, 4.0)
    race.update(scores)
    assert race.asked == 4
    assert raced(scores, None).asked == 10
    assert not raced(scores[:, :3], 4.0).won


def test_the_race_does_not_depend_on_the_size_of_its_rounds():
    scores = mixture_scores(given_to(candidates(5), np.random.default_rng(5).integers(CLASSES, size=Q)))
    whole, parts = raced(scores, 1.0), Race(K, 1.0)
    for start in range(0, Q, 7):
        parts.update(scores[:, start : start + 7])
    np.testing.assert_array_equal(whole.totals, parts.totals)
    assert whole.asked == parts.asked < Q


def test_one_candidate_is_no_lineup():
    with pytest.raises(UsageError, match="two candidates"):
        Race(1, None)


def test_a_victim_outside_of_its_twins_is_told_and_an_equal_is_no_outsider():
    figures = {"accuracy": [0.9, 0.8, 0.7], "loss": [0.1, 0.1, 0.3], "confidence": [0.5, 0.6, 0.4]}
    assert outermost(figures, 0) == {"accuracy": "most"}
    assert outermost(figures, 2) == {"accuracy": "least", "loss": "most", "confidence": "least"}
    assert outermost(figures, 1) == {"confidence": "most"}


def test_strangers_who_all_name_one_candidate_are_a_clump():
    assert clumped(5, 6, 20)
    assert not clumped(1, 6, 20)
    assert not clumped(0, 0, 20)


def test_residuals_are_cosines_of_what_sets_apart():
    chance = np.random.default_rng(3)
    known, answers = chance.normal(size=(4, 5, 3)), chance.normal(size=(5, 3))
    own, other = known - known.mean(0), answers - known.mean(0)
    cosines = [float((each * other).sum() / np.sqrt((each**2).sum() * (other**2).sum())) for each in own]
    assert residual_scores(known, answers) == pytest.approx(cosines)
    assert residual_scores(known, np.stack([answers] * 4)) == pytest.approx(cosines)  # as each candidate reads them


def test_the_variance_is_that_of_answers_drawn_from_the_mean():
    chances = np.random.default_rng(4).dirichlet(np.ones(3), size=(4, 6))
    expected, variance = expected_scores(chances)
    mean = chances.mean(0)
    scores = np.stack([mixture_scores(np.take(chances, label, 2)) for label in range(3)], 2)
    assert expected == pytest.approx((mean * scores).sum(2))
    assert variance == pytest.approx((mean * (scores - expected[..., None]) ** 2).sum(2))
    totals = np.arange(4.0)
    assert standardised(totals, expected, variance) == pytest.approx(
        (totals - expected.sum(1)) / np.sqrt(variance.sum(1))
    )


def test_a_lead_is_that_over_the_second():
    race = Race(3, 1.0)
    race.update(np.array([[2.0, 0.5], [2.0, 0.0], [0.0, 0.0]]))
    assert (race.asked, race.lead, race.won) == (2, 0.5, False)
    race.update(np.array([[0.5, 9.0], [0.0, 0.0], [0.0, 0.0]]))
    assert (race.asked, race.lead, race.won) == (3, 1.0, True)  # by the margin exactly; the last question is too late
    with pytest.raises(UsageError, match="two candidates"):
        Race(1, None)
    assert not Race(2, 1e-9).won


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=60))
@settings(max_examples=50, deadline=None)
def test_a_lead_is_that_of_the_first_over_the_second_of_however_many(totals):
    race = Race(len(totals), None)
    race.update(np.array(totals)[:, None])
    second, first = sorted(totals)[-2:]
    assert race.lead == first - second


def test_a_race_may_end_with_its_first_question():
    race = raced(np.array([[5.0, 1.0], [0.0, 0.0]]), 5.0)
    assert (race.asked, race.won) == (1, True)


def test_equals_are_equal_to_a_billionth_of_their_size():
    assert rank([0.5, 0.5 - 5e-10], 0) == 2
    assert rank([0.5, 0.5 - 1.5e-9], 0) == 1
    assert rank([1e6, 1e6 - 5e-4], 0) == 2
    assert rank([1e6, 1e6 - 2e-3], 0) == 1


def test_one_stranger_is_a_clump_only_among_more_than_a_hundred():
    """One of one is no rate below .01, at an error of .01."""
    assert clumped(1, 1, 101)
    assert not clumped(1, 1, 99)
