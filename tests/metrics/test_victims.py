"""Intervals over victims hold what they say on made-up benchmarks of known truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from whorl.errors import UsageError
from whorl.metrics import (
    FEWEST,
    ClusterEstimate,
    Interval,
    auc,
    auc_interval,
    clopper_pearson,
    difference_over_victims,
    over_victims,
)

MEASURED = Path(__file__).parents[2] / "benchmarks" / "results" / "intervals.json"
RUNS = 400


def copies_of(generator, shift, alike, count):
    return shift + np.sqrt(alike) * generator.normal() + np.sqrt(1 - alike) * generator.normal(size=count)


def areas(generator, victims, truth, alike):
    """One AUC for each victim; their mean over all victims is ``truth``."""
    distance = norm.ppf(truth) * np.sqrt(2)
    return [auc(copies_of(generator, distance, alike, 20), copies_of(generator, 0, alike, 20)) for _ in range(victims)]


def rates(generator, victims, truth, alike):
    spread = 1 / alike - 1
    return list(generator.binomial(20, generator.beta(truth * spread, (1 - truth) * spread, victims)) / 20)


def covers(found, runs, stated):
    """Whether so many covered of so many are no sign of less than is stated."""
    return clopper_pearson(found, runs, 0.998).high >= stated


@pytest.mark.parametrize("victims", [3, 5, 8, 20])
@pytest.mark.parametrize(("draw", "truth", "alike"), [(areas, 0.6, 0.5), (areas, 0.95, 0.3), (rates, 0.5, 0.3)])
def test_intervals_over_few_victims_cover_what_they_say(victims, draw, truth, alike):
    generator = np.random.default_rng(victims)
    found = sum(
        truth in over_victims(draw(generator, victims, truth, alike), [20] * victims).interval for _ in range(RUNS)
    )
    assert covers(found, RUNS, 0.95)


def test_models_of_one_victim_are_no_independent_trials():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(RUNS):
        clusters = [(copies_of(generator, 2, 0.5, 20), copies_of(generator, 0, 0.5, 20)) for _ in range(6)]
        held += norm.cdf(np.sqrt(2)) in auc_interval(*(np.concatenate(side) for side in zip(*clusters, strict=True)))
    assert not covers(held, RUNS, 0.8)


def test_a_figure_that_did_not_change_seldom_moves():
    """Two runs of the same victims and equal truth; the rule claims a move at most at its rate."""
    generator = np.random.default_rng(1)
    for victims in (2, 3, 8):
        false = 0
        for _ in range(RUNS):
            rate = generator.beta(4, 1, victims)
            one, other = generator.binomial(20, rate, (2, victims)) / 20
            change = difference_over_victims(list(one), list(other), [20] * victims).interval
            false += change.low > 0 or change.high < 0
        assert clopper_pearson(false, RUNS, 0.998).low <= 0.05


def test_a_change_of_every_victim_is_seen():
    change = difference_over_victims([0.5, 0.7, 0.6, 0.9], [0.6, 0.82, 0.69, 1.0], [40] * 4)
    assert change.value == pytest.approx(0.1025)
    assert 0 < change.interval.low < change.interval.high < 0.15
    # By hand: sd .0126, se .0063, rounding 1/(12 * 40^2 * 4), t of 3 degrees 3.182.
    assert change.interval.high - change.value == pytest.approx(3.1824 * np.sqrt(0.0062915**2 + 1 / 76800), rel=1e-3)


def test_few_victims_that_move_by_the_same_step_prove_nothing():
    moved = difference_over_victims([0.9, 0.9], [0.95, 0.95], [20, 20]).interval
    assert moved.low < 0 < moved.high
    still = difference_over_victims([0.9, 0.4], [0.9, 0.4], [20, 20]).interval
    assert still == Interval(0, 0)


def test_the_figure_lies_within_its_interval_at_both_ends():
    """Three victims at 1 are no certainty: half a miss in 60 models, by hand."""
    full, empty = over_victims([1.0] * 3, [20] * 3), over_victims([0.0] * 3, [20] * 3)
    inner = 60.5 / 61
    half = 1.959964 * np.sqrt(inner * (1 - inner) / 60) / (inner * (1 - inner))
    low = 1 / (1 + np.exp(-(np.log(inner / (1 - inner)) - half)))
    assert full.interval.low == pytest.approx(low, rel=1e-6)
    assert full.interval.high == full.value == 1
    assert (empty.interval.low, empty.interval.high) == pytest.approx((0, 1 - low))
    assert full.interval.low > over_victims([1.0] * 3, [5] * 3).interval.low


def test_two_victims_have_a_range_and_no_interval_worth_showing():
    two, three = over_victims([0.8, 0.9], [20, 20]), over_victims([0.8, 0.9, 0.85], [20] * 3)
    assert (two.told, two.around) == ("range", Interval(0.8, 0.9))
    assert two.interval.high - two.interval.low > 0.6
    assert (three.told, three.around) == ("interval", three.interval)
    assert ClusterEstimate(0.5, Interval(0.1, 0.9), 1).told == ""


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(UsageError, match="at least 2"):
        over_victims([0.9], [20])
    with pytest.raises(UsageError, match="same victims on both sides"):
        difference_over_victims([0.1, 0.2], [0.1, 0.2, 0.3], [20, 20])
    with pytest.raises(UsageError, match=r"lie in \[0, 1\]"):
        over_victims([0.9, 1.2], [20, 20])


def test_the_committed_simulation_is_what_the_documents_say():
    measured = json.loads(MEASURED.read_text())
    coverage = [row for row in measured["coverage"] if row["victims"] >= FEWEST]
    for row in coverage:
        assert row["over_victims"] > row["resampled"], row
        if row["figure"] == "auc":
            assert covers(round(row["over_victims"] * measured["runs"]), measured["runs"], 0.95), row
    for victims in {row["victims"] for row in coverage}:
        held = [row["over_victims"] for row in coverage if row["victims"] == victims]
        assert np.mean(held) >= 0.95
    for row in measured["moves"]:
        for rule in ("paired", "apart"):
            false = round(row[rule] * measured["runs"])
            assert clopper_pearson(false, measured["runs"], 0.998).low <= 0.05, row


def test_what_is_told_of_a_figure_depends_on_how_many_victims_are_known():
    whole, part = Interval(0.1, 0.9), Interval(0.4, 0.6)
    told = [ClusterEstimate(0.5, whole, *rest).told for rest in ((1, part), (2, part), (2,), (3, part), (3,))]
    assert told == ["", "range", "", "interval", "interval"]
    assert ClusterEstimate(0.5, whole, 1, part).around == ClusterEstimate(0.5, whole, 2).around == whole
    moved = difference_over_victims([0.5, 0.7], [0.625, 0.575], [8, 8])
    assert (moved.extent.low, moved.extent.high) == pytest.approx((-0.125, 0.125))
