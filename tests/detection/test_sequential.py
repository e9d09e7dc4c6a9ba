import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whorl.detection import SequentialMean
from whorl.detection.sequential import wager
from whorl.errors import UsageError


def ones(matches, size):
    return (np.arange(size) < matches).astype(float)


def false_refutations(values, error, runs, seed):
    """How often the true mean is called refuted at any of many looks, over random orders of ``values``."""
    generator = np.random.default_rng(seed)
    mean, looks = values.mean(), np.arange(3, len(values), 3)
    failures = 0
    for _ in range(runs):
        test = SequentialMean(len(values), error, levels=[mean])
        order = generator.permutation(values)
        failed = False
        for part in np.split(order, looks):
            test.update(part)
            failed |= test.highest_refuted >= mean
            assert test.total / test.size <= test.lower <= test.upper + 1e-9
        failures += failed
    return failures / runs


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (ones(5, 50), 0.1),
        (ones(25, 50), 0.1),
        (ones(45, 50), 0.1),
        (ones(6, 20), 0.2),
        (ones(10, 30), 0.02),
        (np.r_[np.zeros(20), np.full(10, 0.5), np.ones(10)], 0.1),  # neither 0 nor 1
        (np.linspace(0, 1, 40) ** 3, 0.1),
    ],
)
def test_the_truth_is_refuted_no_more_often_than_error(values, error):
    runs = 2000
    rate = false_refutations(values, error, runs, seed=0)
    assert rate <= error + 3 * np.sqrt(error * (1 - error) / runs)
    assert rate > 0  # the bound is not met by a test that never refutes


def test_lower_bound_on_the_grid_holds_at_all_times():
    generator = np.random.default_rng(1)
    size, matches, error, runs = 40, 12, 0.1, 1000
    failures = 0
    for _ in range(runs):
        test, failed = SequentialMean(size, error), False
        for part in np.split(generator.permutation(ones(matches, size)), 10):
            test.update(part)
            failed |= test.lower > matches / size
        assert test.lower == test.upper == matches / size
        failures += failed
    assert failures / runs <= error + 3 * np.sqrt(error * (1 - error) / runs)


@given(st.integers(1, 30).flatmap(lambda n: st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n)))
def test_without_error_only_certainty_refutes(values):
    size = len(values)
    test = SequentialMean(size, 0.0)
    for value in values:
        test.update([value])
        total = int(test.total)
        assert test.highest_refuted == ((total - 1) / size if total else -np.inf)  # the highest level below S/n
        assert test.lower == total / size
        assert test.upper == (total + size - test.asked) / size


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.01, 0.3]),
    st.lists(st.integers(0, 40), max_size=5),
)
def test_everything_asked_is_everything_known_and_blocks_do_not_matter(values, error, cuts):
    whole, parts = SequentialMean(len(values), error), SequentialMean(len(values), error)
    whole.update(values)
    for part in np.split(np.array(values), sorted(cuts)):
        parts.update(part)
    for test in (whole, parts):
        assert test.lower == pytest.approx(np.mean(values), abs=1e-9)
        assert test.upper == pytest.approx(np.mean(values), abs=1e-9)
    assert parts.highest_refuted == whole.highest_refuted < np.mean(values)


def test_a_copy_is_recognised_early_and_sooner_the_lower_the_level():
    needed = []
    for level in (0.1, 0.3, 0.6):
        test = SequentialMean(100, 0.01, levels=[level])
        while test.highest_refuted < level:
            test.update([1.0])
        needed.append(test.asked)
    assert needed[0] <= 4
    assert needed == sorted(set(needed))
    assert needed[-1] <= 20


def test_the_bet_by_hand():
    test = SequentialMean(10, 0.4, levels=[0.5])
    test.update([1.0])  # bet .7 against .5: wealth 1.4
    assert test.highest_refuted == -np.inf
    test.update([1.0])  # bet 3.1/4 against 4/9: wealth 1.4 * 1.744 = 2.44 < 1/0.4
    assert test.highest_refuted == -np.inf
    test.update([0.0])  # a mismatch costs
    test.update([1.0])  # 2.44 * (1-.82)/(1-3/8) * (4.1/6)/(3/7) = 1.12
    assert test.highest_refuted == -np.inf
    sooner = SequentialMean(10, 0.42, levels=[0.5])
    sooner.update([1.0, 1.0, 0.0])  # 2.44 >= 1/0.42 at the second value, and what was reached stays
    assert sooner.highest_refuted == 0.5


def test_no_level_falls_while_a_lower_one_stands():
    values = [0, 1, 1, 1, 0, 1, 1, 1, 1]  # against 22/30 the wealth once passes 1/error, against 19/30 never
    alone, among = SequentialMean(30, 0.999, levels=[22 / 30]), SequentialMean(30, 0.999)
    for test in (alone, among):
        test.update(values)
    assert alone.highest_refuted == 22 / 30
    assert among.highest_refuted == among.lower == 18 / 30


def test_levels_rounded_to_float32_are_ties_not_excesses():
    level = float(np.float32(0.57))  # a little less than .57
    test = SequentialMean(100, 0.0, levels=[level])
    test.update(ones(57, 100))
    assert test.highest_refuted == -np.inf


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: SequentialMean(0, 0.1), "at least one query"),
        (lambda: SequentialMean(5, 1.0), r"lies in \[0, 1\)"),
        (lambda: SequentialMean(5, 0.1).update([1.5]), r"lie in \[0, 1\]"),
        (lambda: SequentialMean(2, 0.1).update([1, 1, 1]), "3 values were revealed of a list of 2"),
    ],
)
def test_wrong_input_is_named(call, says):
    with pytest.raises(UsageError, match=says):
        call()


def test_no_more_is_revealed_than_the_list_holds():
    test = SequentialMean(5, 0.05, levels=np.array([0.2, 0.5]))
    test.update([1.0] * 3)
    with pytest.raises(UsageError, match="6 values were revealed of a list of 5"):
        test.update([1.0] * 3)
    test.update([1.0] * 2)
    assert test.asked == 5


def test_a_level_that_chance_refuted_is_restored_once_it_is_certain():
    """A list whose ones came first by chance: its own mean is refuted, and not any more when all is known."""
    mean = SequentialMean(20, 0.3, levels=[0.25])
    mean.update(np.ones(5))
    assert mean.highest_refuted == 0.25
    mean.update(np.zeros(15))
    assert mean.highest_refuted == -np.inf
    assert (mean.lower, mean.upper) == (0.25, 0.25)


def test_a_bet_against_a_level_near_1_lies_halfway_to_1():
    assert wager(0, 100, 0.999) == pytest.approx(0.9995)
    assert wager(0, 100, 0.5) == pytest.approx(0.501)
