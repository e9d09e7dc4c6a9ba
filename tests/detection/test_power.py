"""When a perfect copy is called derived, and what strangers of several kinds spend."""

from __future__ import annotations

import numpy as np
import pytest

from whorl.detection import Trial, measure_power, plan
from whorl.detection.groups import Groups
from whorl.detection.power import measured, queries_for_a_copy
from whorl.detection.sequential import SequentialMean
from whorl.types import Calibration, Null, NullModel

STRANGERS = (0.11, 0.13, 0.2, 0.22, 0.3, 0.31, 0.33, 0.36, 0.4071) * 11


@pytest.mark.parametrize("size", [40, 300])
def test_a_perfect_copy_takes_as_many_queries_as_are_said(size):
    """The levels that are refuted are the similarities of the null, and no others, of which one would be above them."""
    made = plan(STRANGERS, alpha=0.05)
    needed = queries_for_a_copy(STRANGERS, made, size=size)
    assert needed is not None
    for asked, derived in ((needed - 1, False), (needed, True)):
        mean = SequentialMean(size, made.sampling_error, levels=STRANGERS)
        mean.update(np.ones(asked))
        assert (mean.highest_refuted >= made.threshold) is derived


def test_no_number_of_queries_suffices_with_too_few_strangers():
    assert queries_for_a_copy(STRANGERS[:9], plan(STRANGERS[:9], alpha=0.05), size=50) is None


@pytest.mark.parametrize("sampling", [0.001, 0.02])
def test_groups_spend_the_sampling_error_that_is_given(sampling):
    models = tuple(NullModel(name=f"m{place}", group="ab"[place % 2]) for place in range(len(STRANGERS)))
    groups = Groups(Null(pool="strangers", models=models, similarities=STRANGERS), alpha=0.1, sampling_error=sampling)
    assert {each.sampling_error for each in groups.plans.values()} == {sampling}
    assert groups.plan.error_bound == max(each.error_bound for each in groups.plans.values()) <= 0.1


@pytest.mark.parametrize("size", [40, 300])
def test_a_trial_and_its_power_count_as_many_queries_as_are_said(size):
    strangers = Null("", tuple(NullModel(str(place)) for place in range(len(STRANGERS))), STRANGERS)
    made = plan(STRANGERS, alpha=0.05)
    needed = queries_for_a_copy(STRANGERS, made, size=size)
    assert needed is not None
    for asked, derived in ((needed - 1, False), (needed, True)):
        trial = Trial(Calibration(strangers), size=size, alpha=0.05)
        trial.update(np.ones(asked))
        assert trial.derived is derived
        caught = measure_power({"copy": [1.0]}, STRANGERS, made, size=size, budget=asked)["copy"]["caught"]
        assert caught == derived


def test_a_copy_at_the_threshold_is_not_caught():
    made = plan(STRANGERS, alpha=0.05)
    power = measure_power({"copy": [made.threshold, made.threshold + 1e-6]}, STRANGERS, made, size=40, budget=40)
    assert power["copy"]["caught"] == 1


def test_a_copy_is_caught_where_nearly_all_orders_catch_it():
    """Certainty alone refutes with 19 strangers: eleven matches of .1 of a hundred, of which one query is not asked."""
    null = np.full(19, 0.1)
    made = plan(null, alpha=0.05)
    assert made.sampling_error == 0
    power = measure_power({"copy": [0.11, 0.12]}, null, made, size=100, budget=99)
    assert power["copy"]["caught"] == 1, "of 11 matches one is left out in 11 % of orders"


def test_a_perfect_copy_is_caught_by_however_few_orders(monkeypatch):
    monkeypatch.setattr("whorl.detection.power.ORDERS", 10)
    made = plan(STRANGERS, alpha=0.05)
    assert measure_power({"copy": [1.0]}, STRANGERS, made, size=300, budget=200)["copy"]["caught"] == 1


def test_no_copies_have_no_power():
    assert measured(0, 0, 1)["power"] == 0
