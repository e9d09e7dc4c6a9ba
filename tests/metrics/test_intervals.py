import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from whorl.errors import UsageError
from whorl.metrics import Interval, clopper_pearson, wilson

counts = st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.sampled_from([0.8, 0.95, 0.999]))
def test_both_agree_with_scipy(count, confidence):
    for ours, method in ((clopper_pearson, "exact"), (wilson, "wilson")):
        theirs = binomtest(*count).proportion_ci(confidence, method=method)
        interval = ours(*count, confidence)
        assert (interval.low, interval.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_the_exact_interval_never_covers_too_little():
    for n in (5, 20, 60):
        for p in np.linspace(0.01, 0.99, 41):
            covered = sum(binom.pmf(k, n, p) for k in range(n + 1) if p in clopper_pearson(k, n))
            assert covered >= 0.95


def test_no_trials_no_knowledge():
    assert clopper_pearson(0, 0) == wilson(0, 0) == Interval(0, 1)


@pytest.mark.parametrize("count", [(-1, 5), (6, 5)])
def test_impossible_counts_are_refused(count):
    with pytest.raises(UsageError, match="between 0 and the number of trials"):
        clopper_pearson(*count)


def test_an_interval_holds_its_ends():
    assert all(value in Interval(0.1, 0.9) for value in (0.1, 0.5, 0.9))
    assert not any(value in Interval(0.1, 0.9) for value in (0.09, 0.91))


def test_an_interval_is_of_95_percent_unless_another_is_asked_for():
    assert wilson(3, 10) == wilson(3, 10, 0.95)
    assert clopper_pearson(3, 10) == clopper_pearson(3, 10, 0.95)
    for confidence in (0.0, 1.0, 1.5):
        with pytest.raises(UsageError, match="between 0 and 1"):
            wilson(3, 10, confidence)


def test_no_rounding_leads_out_of_the_range():
    for trials in range(1, 300):
        assert wilson(trials, trials).high <= 1
        assert wilson(0, trials).low >= 0
