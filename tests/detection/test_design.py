"""Drawn labels: the exact tail, its levels over draws, betting in any order, and when a p-value is called exact."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom, kstest

from whorl.attest.draw import Draw, commitment, numbers_below
from whorl.detection.design import Design, DesignBets, DesignTest, strongest
from whorl.errors import UsageError

CLAIM = hashlib.sha256(b"claim").hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


def drawing(*, number=0, claim=CLAIM, withhold=()):
    roles = ("judge", "owner", "suspect")
    nonces = {role: hashlib.sha256(f"{role} {number}".encode()).digest() for role in roles}
    commits = [(role, "commits", commitment(role, claim, nonces[role])) for role in roles]
    ends = [
        (role, "withholds", "") if role in withhold else (role, "reveals", nonces[role].hex())
        for role in ("owner", "suspect", "judge")
    ]
    return Draw(claim, (*commits, *ends))


def design(count=50, choices=10, *, draws=1, **options):
    proof = drawing(**options)
    return Design(tuple(proof.labels(count, choices, "m")), choices, draws, proof, CLAIM, "m")


def tail(matches, n, choices):
    """P(Bin(n, 1/C) >= matches), in fractions."""
    p = Fraction(1, choices)
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(matches, n + 1))


@pytest.mark.parametrize(("n", "choices"), [(50, 10), (64, 2), (7, 3), (100, 1000), (1, 2)])
def test_the_tail_is_exact(n, choices):
    made = design(n, choices)
    labels = np.asarray(made.drawn)
    for matches in range(n + 1):
        answers = np.where(np.arange(n) < matches, labels, (labels + 1) % choices)
        found = made.test(answers)
        exact = tail(matches, n, choices)
        log_p = math.log(exact.numerator) - math.log(exact.denominator)
        assert found.log_p == pytest.approx(log_p, rel=1e-9, abs=1e-12)
        assert (found.matches, found.n, found.choices, found.draws) == (matches, n, choices, 1)


def test_the_published_thresholds():
    """Fewest matches for p <= 1e-6 with ten classes: 18 of 50 and 28 of 100."""
    for n, fewest in ((50, 18), (100, 28)):
        made = design(n, 10)
        labels = np.asarray(made.drawn)

        def p(matches, n=n, made=made, labels=labels):
            return made.test(np.where(np.arange(n) < matches, labels, -1)).p

        assert p(fewest) <= 1e-6 < p(fewest - 1)


def test_p_is_never_zero():
    made = design(2000, 1000)
    found = made.test(made.drawn)
    assert found.log_p == pytest.approx(2000 * math.log(1 / 1000))
    assert 0 < found.p < 1e-300


def suspects():
    """Answers that know nothing of the draw: constant, uniform, skewed, and adaptive to what was asked before."""
    chance = np.random.default_rng(5)
    yield np.zeros(50, int)
    yield chance.integers(0, 10, 50)
    yield np.minimum(chance.geometric(0.4, 50) - 1, 9)
    yield np.arange(50) % 10


def test_the_error_over_draws():
    """1,000 draws: whatever a suspect answers, p <= u with probability at most u, and close to what is possible."""
    for answers in suspects():
        found = np.array([design(number=number).test(answers).p for number in range(1000)])
        for level in (0.2, 0.05, 0.01):
            possible = max(p for k in range(51) if (p := float(binom.sf(k - 1, 50, 0.1))) <= level)
            spread = 3.5 * math.sqrt(possible * (1 - possible) / 1000)
            assert abs((found <= level).mean() - possible) <= spread


def test_labels_that_an_owner_chose_have_no_such_level_and_are_not_exact():
    """The majority of other nets convicts strangers: the number is worth nothing, and the result says so."""
    answers = np.arange(50) % 10
    chosen = Design(tuple(answers), 10, 1)
    found = chosen.test(answers)
    assert found.p < 1e-40
    assert not found.exact
    assert "there is no draw" in found.why


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (design(), ""),
        (Design(design().drawn, 10, 1), "there is no draw"),
        (Design(design().drawn, 10, 1, drawing(claim=OTHER), CLAIM, "m"), "another claim"),
        (Design(design().drawn, 10, 1, drawing(), CLAIM, "n"), "not those that were drawn"),
        (Design(design().drawn[::-1], 10, 1, drawing(), CLAIM, "m"), "not those that were drawn"),
        (Design(design(number=1).drawn, 10, 1, drawing(), CLAIM, "m"), "not those that were drawn"),
        (Design(tuple(drawing().bits(50, "m")), 2, 1, drawing(), CLAIM, "m", "bits"), ""),
        (Design(tuple(drawing().bits(50, "m")), 2, 1, drawing(), CLAIM, "m"), "not those that were drawn"),
        (design(withhold=("suspect",)), "suspect withheld a nonce"),
    ],
)
def test_a_p_value_is_called_exact_only_with_its_proof(made, why):
    found = made.test(np.full(50, -1))
    assert found.exact == (not why)
    assert why in found.why
    assert found.p == 1


def test_draws_and_withheld_nonces_multiply():
    base, answers = design(), np.asarray(design().drawn)
    for draws, withhold, factor in ((7, (), 7), (1, ("suspect",), 2), (3, ("suspect", "owner"), 12)):
        made = design(draws=draws, withhold=withhold)
        found = made.test(np.where(np.arange(50) < 20, made.drawn, -1))
        plain = base.test(np.where(np.arange(50) < 20, answers, -1))
        assert found.log_p == pytest.approx(plain.log_p + math.log(factor))
        assert found.draws == factor
    assert design(draws=10**9).test(np.full(50, -1)).p == 1


def test_grinding_does_not_pay():
    """The best of 100 draws against one suspect, times 100, is level over 150 such owners."""
    answers = np.arange(20) % 10
    least = []
    for owner in range(150):
        seeds = (hashlib.sha256(f"{owner} {number}".encode()).digest() for number in range(100))
        drawn = (tuple(numbers_below(seed, "labels", "m", count=20, choices=10)) for seed in seeds)
        least.append(min(Design(each, 10, 100).test(answers).p for each in drawn))
    assert np.mean(np.array(least) <= 0.05) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 150)
    assert np.mean(np.array(least) * (1 / 100) <= 0.05) > 0.9  # uncounted, nearly everybody convicts


def bets(made, answers, order):
    found = DesignBets(made)
    for place in order:
        found.update(int(place), int(answers[place]))
    return found


def test_an_e_value_is_one_on_average():
    """Over all 3^4 draws of four labels, in an order that adapts to what was seen: the mean is exactly 1."""
    answers, mean = [0, 0, 1, 2], 0.0
    for number in range(3**4):
        drawn = tuple(number // 3**k % 3 for k in range(4))
        found = DesignBets(Design(drawn, 3, 1))
        left, last = [0, 1, 2, 3], True
        while left:
            place = left.pop(0 if last else -1)  # after a match the first, else the last
            found.update(place, answers[place])
            last = answers[place] == drawn[place]
        mean += math.exp(found.log_e) / 3**4
    assert mean == pytest.approx(1, abs=1e-12)


def test_stopping_early_keeps_the_error():
    """Looked at after every answer, in an order that the labels seen so far decide: p <= .05 ever in at most .05."""
    answers = np.random.default_rng(3).integers(0, 4, 40)
    ever = 0
    for number in range(1500):
        made = Design(tuple(drawing(number=number).labels(40, 4, "m")), 4, 1)
        found, left = DesignBets(made), list(range(40))
        while left:
            place = left.pop(0 if found.test().matches % 2 else -1)
            found.update(place, int(answers[place]))
        ever += found.test().p <= 0.05
    assert ever / 1500 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1500)
    assert ever > 0


def test_a_copy_is_shown_by_few_questions():
    made = design(50, 10)
    chance = np.random.default_rng(1)
    answers = np.where(chance.random(50) < 0.9, made.drawn, -1)
    found = DesignBets(made)
    for place in range(50):
        found.update(place, int(answers[place]))
        if found.test().p <= 1e-6:
            break
    assert found.test().n < 15
    assert found.test().exact
    assert found.log_e > 0


def test_a_later_loss_takes_nothing_back():
    made = design(50, 2)
    good = bets(made, np.asarray(made.drawn), range(20))
    p = good.test().p
    for place in range(20, 50):
        good.update(place, -1)
    assert good.test().p == p
    assert good.log_e < math.log(1 / p)
    with pytest.raises(UsageError, match="is asked once"):
        good.update(3, 0)
    with pytest.raises(UsageError, match="is asked once"):
        good.update(50, 0)


def test_several_marks_share_an_error():
    tests = [design(number=number, draws=1).test(np.arange(50) % 10) for number in range(5)]
    found = strongest(tests)
    assert found.log_p == pytest.approx(min(0, min(each.log_p for each in tests) + math.log(5)))
    assert (found.tests, found.exact) == (5, True)
    loose = DesignTest(-1.0, 1, 2, 2, 1, False, "unproven")
    assert (strongest([*tests, loose]).exact, strongest([*tests, loose]).why) == (False, "unproven")
    for several in ([], [found]):
        with pytest.raises(UsageError, match="corrected once"):
            strongest(several)


def test_the_same_bets_as_the_sequential_test():
    """Both bet by one rule, which lies above chance and below 1 wherever they stand."""
    from whorl.detection.sequential import wager

    for chance in (1e-6, 0.1, 0.5, 0.999999):
        for seen in range(0, 50, 7):
            for matches in range(0, seen + 1, 7):
                assert chance < wager(matches, seen, chance) < 1


def test_what_is_no_design():
    for drawn, choices, draws, kind in (
        ((), 2, 1, "labels"),
        ((0, 2), 2, 1, "labels"),
        ((-1, 0), 2, 1, "labels"),
        ((0, 1), 1, 1, "labels"),
        ((0, 1), 3, 1, "bits"),
        ((0, 1), 2, 0, "labels"),
    ):
        with pytest.raises(UsageError):
            Design(drawn, choices, draws, kind=kind)
    for answers in ([0.5] * 50, [0] * 49, [[0] * 50]):
        with pytest.raises(UsageError, match="50 answers are needed"):
            design().test(answers)


def test_uniform_p_values_of_many_labels():
    """A finer check than levels: with randomised ties the p-values of 500 draws are uniform."""
    chance = np.random.default_rng(2)
    values = []
    for number in range(500):
        found = design(100, 2, number=number).test(np.zeros(100, int))
        above = 0.0 if found.matches == 100 else float(tail(found.matches + 1, 100, 2))
        values.append(above + chance.random() * (found.p - above))
    assert kstest(values, "uniform").pvalue > 1e-3


def test_without_a_proof_p_is_multiplied_by_the_draws_alone():
    assert Design((0, 1), 2, 1).tries == 1
    assert Design((0, 1), 2, 3).tries == 3


def test_bets_that_were_lost_or_not_made_show_nothing():
    made = design(20, 10)
    assert DesignBets(made).test().p == 1
    assert bets(made, np.full(20, -1), range(20)).test().p == 1
