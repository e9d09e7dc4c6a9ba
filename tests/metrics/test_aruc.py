import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whorl.errors import UsageError
from whorl.metrics import aruc, robustness_uniqueness_curve

shares = st.lists(st.floats(0, 1).map(lambda x: round(x, 3)), min_size=1, max_size=15)


def test_a_perfect_ranking_with_no_margin_has_a_small_aruc():
    # R is 1 up to .30 and 1/2 up to .35; U is 1/2 from .20 and 1 from .25.
    assert aruc([0.30, 0.35], [0.20, 0.25]) == pytest.approx(0.5 * 0.05 + 1 * 0.05 + 0.5 * 0.05)


def test_the_extremes():
    assert aruc([1.0, 1.0], [0.0]) == 1
    assert aruc([0.0], [1.0]) == 0
    assert aruc([0.7], [0.7]) == 0


def test_a_gap_counts_its_width_and_what_lies_beside_it():
    # b - a = .4 within the gap; between .2 and .3 half of the negatives are passed.
    assert aruc([0.7, 0.7], [0.2, 0.3]) == pytest.approx(0.4 + 0.5 * 0.1)


@given(shares, shares)
def test_a_fine_grid_agrees(positives, negatives):
    middles = (np.arange(20_000) + 0.5) / 20_000
    robustness = (np.array(positives)[:, None] >= middles).mean(0)
    uniqueness = (np.array(negatives)[:, None] < middles).mean(0)
    assert aruc(positives, negatives) == pytest.approx(np.minimum(robustness, uniqueness).mean(), abs=1e-3)


def test_the_curve_holds_every_break_point_with_its_value():
    curve = robustness_uniqueness_curve([0.6, 0.8], [0.6, 0.1])
    assert curve.thresholds.tolist() == [0, 0.1, 0.6, 0.8, 1]
    assert curve.robustness.tolist() == [1, 1, 1, 0.5, 0]
    assert curve.uniqueness.tolist() == [0, 0, 0.5, 1, 1]
    assert curve.aruc == aruc([0.6, 0.8], [0.6, 0.1])


def test_scores_without_a_scale_are_refused():
    with pytest.raises(UsageError, match=r"ARUC needs scores in \[0, 1\]; the negatives reach from -0.5 to 0.2"):
        aruc([0.5], [-0.5, 0.2])


def test_scores_of_another_scale_are_refused_on_either_side():
    for positives, negatives in (([0.5, 1.5], [0.2]), ([0.5], [0.2, 1.5])):
        with pytest.raises(UsageError, match="reach from"):
            aruc(positives, negatives)
