import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from whorl.errors import UsageError
from whorl.metrics import auc, auc_interval, clopper_pearson, tpr_at_fpr

tenths = st.lists(st.integers(0, 10).map(lambda k: k / 10), min_size=1, max_size=20)


@given(tenths, tenths)
def test_auc_agrees_with_sklearn_ties_included(positives, negatives):
    truth = [1] * len(positives) + [0] * len(negatives)
    assert auc(positives, negatives) == pytest.approx(roc_auc_score(truth, positives + negatives), abs=1e-12)


def test_auc_by_hand():
    assert auc([0.9, 0.5], [0.5, 0.1]) == (1 + 0.5 + 1 + 1) / 4


def test_delong_variance_is_that_of_the_placements():
    positives, negatives = [0.9, 0.8, 0.4], [0.5, 0.3, 0.2, 0.1]
    # Placements by hand: 1, 1, 3/4 for positives; 2/3, 1, 1, 1 for negatives.
    area = 11 / 12
    variance = (2 / 3 * 1 / 16 / 2) / 3 + (3 / 4 * 1 / 9 / 3) / 4
    half = 1.959963984540054 * math.sqrt(variance) / (area * (1 - area))
    centre = math.log(area / (1 - area))
    interval = auc_interval(positives, negatives)
    assert interval.low == pytest.approx(1 / (1 + math.exp(half - centre)))
    assert interval.high == pytest.approx(1 / (1 + math.exp(-half - centre)))


@given(tenths, tenths)
def test_auc_interval_holds_the_auc_and_mirrors(positives, negatives):
    interval, mirrored = auc_interval(positives, negatives), auc_interval(negatives, positives)
    assert 0 <= interval.low <= auc(positives, negatives) + 1e-12
    assert auc(positives, negatives) - 1e-12 <= interval.high <= 1
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - interval.high, 1 - interval.low), abs=1e-9)


def test_perfect_separation_falls_back_to_disjoint_pairs():
    interval = auc_interval([0.9] * 15, [0.1] * 20)
    assert interval == clopper_pearson(15, 15)
    assert interval.low == pytest.approx(0.025 ** (1 / 15))
    assert auc_interval([0.1] * 3, [0.9] * 5) == clopper_pearson(0, 3)
    assert auc_interval([0.5] * 4, [0.5] * 4) == clopper_pearson(2, 4)  # no variance, and yet not certain


def test_interval_covers_unclustered_data():
    generator = np.random.default_rng(0)
    shift = 1.987  # two unit normals this far apart have an AUC of .92
    covered = [0.92 in auc_interval(generator.normal(shift, 1, 30), generator.normal(0, 1, 30)) for _ in range(2000)]
    assert np.mean(covered) >= 0.93


def test_small_samples_cover_because_of_the_fall_back():
    generator = np.random.default_rng(1)
    shift = 2.476  # AUC .96
    covered = [0.96 in auc_interval(generator.normal(shift, 1, 15), generator.normal(0, 1, 15)) for _ in range(2000)]
    assert np.mean(covered) >= 0.93


def test_tpr_uses_the_attainable_grid():
    negatives = np.arange(100) / 100
    point = tpr_at_fpr([0.995, 0.985, 0.5], negatives, 0.01)
    assert (point.rate, point.fpr, point.threshold, point.attainable) == (2 / 3, 0.01, 0.98, True)
    assert point.fpr_interval == clopper_pearson(1, 100)
    assert point.interval == clopper_pearson(2, 3)
    assert tpr_at_fpr([0.5], negatives, 0.29).fpr == 0.29  # 0.29 * 100 is 28.999... in floating point


def test_tpr_says_when_the_rate_is_not_attainable():
    point = tpr_at_fpr([0.9, 0.3], [0.4] * 20, 0.01)
    assert (point.rate, point.fpr, point.attainable) == (0.5, 0.0, False)
    assert point.fpr_interval.high == pytest.approx(0.168, abs=0.001)  # the 17 % that 20 negatives cannot exclude


def test_tpr_never_flags_more_negatives_than_allowed():
    assert tpr_at_fpr([0.7], [0.7, 0.7, 0.7, 0.1], 0.5).fpr == 0  # three tie at the threshold
    assert tpr_at_fpr([0.0], [0.7, 0.1], 1.0).rate == 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: auc([], [0.1]), "positives: 0 given"),
        (lambda: auc([0.1], [float("nan")]), "negatives hold a score that is NaN"),
        (lambda: auc([[0.1]], [0.1]), "flat list"),
        (lambda: tpr_at_fpr([0.1], [0.1], 5), "between 0 and 1"),
        (lambda: auc_interval([0.1], [0.1], 95), "confidence"),
    ],
)
def test_wrong_input_is_named(call, says):
    with pytest.raises(UsageError, match=says):
        call()


def test_a_positive_at_the_threshold_is_not_flagged():
    """As a negative there is not: three of them, of which one would be allowed."""
    point = tpr_at_fpr([0.7, 0.8], [0.7, 0.7, 0.7, 0.1], 0.25)
    assert (point.rate, point.threshold) == (0.5, 0.7)


def test_no_false_positive_at_all_can_be_asked_for():
    assert tpr_at_fpr([0.9], [0.4] * 5, 0.0).attainable
    assert not tpr_at_fpr([0.9], [0.4] * 5, 0.1).attainable
    assert tpr_at_fpr([0.9], [0.4] * 5, 1.0).attainable
    for fpr in (-0.1, 1.5):
        with pytest.raises(UsageError, match="between 0 and 1"):
            tpr_at_fpr([0.1], [0.1], fpr)


def test_delong_of_two_on_a_side():
    """Placements of .9 and .4 among .5, .3: 1 and 1/2; of .5 and .3 among .9, .4: 1/2 and 1."""
    variance = 2 * (1 / 8) / 2
    half = 1.959963984540054 * math.sqrt(variance) / (3 / 16)
    interval = auc_interval([0.9, 0.4], [0.5, 0.3])
    assert interval.low == pytest.approx(1 / (1 + math.exp(half - math.log(3))))
    assert interval.high == pytest.approx(1 / (1 + math.exp(-half - math.log(3))))
