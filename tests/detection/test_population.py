from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whorl.detection import plan, rank_p_value
from whorl.errors import UsageError

nulls = st.lists(st.integers(0, 20).map(lambda k: k / 20), max_size=250)
alphas = st.sampled_from([0.001, 0.01, 0.02, 1 / 30, 0.05, 0.1, 0.2, 0.5])


def test_rank_p_value_by_hand():
    assert rank_p_value(0.9, [0.1, 0.2, 0.3]) == 1 / 4
    assert rank_p_value(0.2, [0.1, 0.2, 0.3]) == 3 / 4  # the tie counts against the claim
    assert rank_p_value(0.9, []) == 1


def test_rank_p_value_is_super_uniform_and_exact_on_its_grid():
    generator = np.random.default_rng(0)
    draws = generator.normal(size=(20_000, 20))
    p_values = np.array([rank_p_value(row[0], row[1:]) for row in draws])
    for step in range(1, 20):
        assert np.mean(p_values <= step / 20 + 1e-12) == pytest.approx(step / 20, abs=0.012)


@pytest.mark.parametrize(
    ("size", "alpha", "rank", "sampling", "bound"),
    [
        (19, 0.05, 1, 0.0, 0.05),  # exactly enough: nothing is left for the sampling level
        (18, 0.05, 0, 0.0, 0.0),
        (21, 0.05, 1, 0.05 - 1 / 22, 0.05),
        (24, 0.05, 1, 0.01, 0.05),
        (99, 0.05, 4, 0.01, 0.05),
        (99, 0.01, 1, 0.0, 0.01),
        (124, 0.01, 1, 0.002, 0.01),
        (200, 0.01, 1, 0.002, 1 / 201 + 0.002),
        (0, 0.05, 0, 0.0, 0.0),
    ],
)
def test_plan_by_hand(size, alpha, rank, sampling, bound):
    null = np.arange(size) / 1000
    made = plan(null, alpha=alpha)
    assert made.rank == rank
    assert made.sufficient == (rank > 0)
    assert made.sampling_error == pytest.approx(sampling)
    assert made.error_bound == pytest.approx(bound)
    assert made.threshold == (null[size - rank] if rank else np.inf)
    assert made.p_value_floor == pytest.approx(1 / (size + 1) + sampling)
    assert made.needed == round(1 / alpha) - 1


@given(nulls, alphas)
def test_no_plan_spends_more_than_alpha(null, alpha):
    made = plan(null, alpha=alpha)
    exact = Fraction(alpha).limit_denominator(1000)
    assert made.error_bound <= alpha
    assert made.sufficient == (len(null) + 1 >= 1 / exact)
    assert made.sufficient == (len(null) >= made.needed)
    if made.sufficient:
        assert Fraction(made.rank, len(null) + 1) <= exact
        assert sum(value > made.threshold for value in null) < made.rank


@given(nulls, alphas, st.booleans())
def test_derived_by_p_value_and_by_threshold_are_the_same(null, alpha, whole):
    made = plan(null, alpha=alpha, sampling_error=0.0 if whole else None)
    for similarity in np.arange(21) / 20:
        as_alike = sum(value >= similarity for value in null)
        assert (made.p_value(as_alike) <= alpha) == (similarity > made.threshold) == (as_alike < made.rank)
        assert made.p_value_floor - 1e-15 <= made.p_value(as_alike) <= 1
        if whole and made.sufficient and len(null) * alpha < 20:
            assert made.p_value(as_alike) == pytest.approx(rank_p_value(similarity, null))


@given(nulls, alphas)
def test_without_sampling_the_rank_is_never_smaller(null, alpha):
    whole = plan(null, alpha=alpha, sampling_error=0.0)
    assert whole.sampling_error == 0
    assert whole.rank >= plan(null, alpha=alpha).rank


@pytest.mark.parametrize("arguments", [{"alpha": 0}, {"alpha": 1}, {"alpha": 0.05, "sampling_error": 0.05}])
def test_rates_that_are_none(arguments):
    with pytest.raises(UsageError, match="alpha"):
        plan([0.1], **arguments)
    with pytest.raises(UsageError, match="NaN"):
        plan([float("nan")], alpha=0.05)


@pytest.mark.parametrize(("size", "alpha", "sampling"), [(49, 0.15, 0.01), (99, 0.3, 0.03), (19, 0.05, 0.0)])
def test_a_p_value_is_at_most_alpha_within_the_rank_and_above_it_beyond(size, alpha, sampling):
    """Sums of doubles say 0.15000000000000002 in the first case."""
    made = plan(np.arange(size) / 1000, alpha=alpha, sampling_error=sampling)
    assert made.p_value(made.rank - 1) <= alpha < made.p_value(made.rank)
    assert made.p_value(made.rank - 1) == pytest.approx(alpha)


def test_the_least_alpha_is_taken():
    assert plan([], alpha=1e-9).needed == 10**9 - 1
    with pytest.raises(UsageError, match="alpha"):
        plan([], alpha=0.9e-9)


def test_sums_of_doubles_within_the_rank_are_never_above_alpha():
    beyond = 0
    for size in range(19, 400):
        for alpha, sampling in ((0.05, None), (0.1, 0.03), (0.15, 0.01), (0.3, 0.03), (0.01, 0.0)):
            made = plan(np.arange(size) / 1000, alpha=alpha, sampling_error=sampling)
            if made.rank:
                assert made.p_value(made.rank - 1) <= alpha
                beyond += made.rank / (size + 1) + made.sampling_error > alpha
    assert beyond, "where the sum is, the test above shows something"
