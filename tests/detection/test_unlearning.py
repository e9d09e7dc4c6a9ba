"""A model after unlearning is ranked among honest retrains."""

from __future__ import annotations

import numpy as np
import pytest

from whorl.detection.unlearning import forgetting
from whorl.errors import UsageError


def test_nearer_than_all_retrains_is_retained():
    found = forgetting(0.9, np.linspace(0, 0.5, 19))
    assert (found.decision, found.p_value, found.p_value_floor) == ("retained", 0.05, 0.05)


def test_among_the_retrains_is_consistent():
    found = forgetting(0.25, np.linspace(0, 0.5, 19))
    assert found.decision == "consistent"
    assert found.p_value == pytest.approx(11 / 20)


def test_as_near_as_the_nearest_retrain_is_no_sign():
    assert forgetting(0.5, np.linspace(0, 0.5, 19)).decision == "consistent"


def test_too_few_retrains_decide_nothing():
    found = forgetting(0.9, np.zeros(18))
    assert found.decision == "inconclusive"
    assert found.needed == 19
    assert forgetting(0.9, np.zeros(found.needed)).decision == "retained"


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_exact_unlearning_is_accused_as_often_as_said(alpha):
    rng = np.random.default_rng(0)
    accused = [forgetting(draw[0], draw[1:], alpha=alpha).decision == "retained" for draw in rng.random((4000, 20))]
    spread = 4 * (alpha * (1 - alpha) / 4000) ** 0.5
    assert abs(np.mean(accused) - alpha) < spread


@pytest.mark.parametrize(
    ("similarity", "null", "alpha"),
    [(0.5, [], 0.05), (float("nan"), [0.1], 0.05), (0.5, [0.1], 0.0), (0.5, [0.1], 1.0)],
)
def test_what_makes_no_sense_is_refused(similarity, null, alpha):
    with pytest.raises(UsageError):
        forgetting(similarity, null, alpha=alpha)


def test_one_retrain_is_enough_for_a_level_of_a_half():
    assert forgetting(0.9, [0.1], alpha=0.5).decision == "retained"
