"""Several fingerprints, one error rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from whorl.detection.combination import check_reach, combine, holm, share_of_alpha
from whorl.detection.verdict import Trial
from whorl.errors import UsageError
from whorl.types import Calibration, Null, NullModel, Verdict


def verdict(p_value, decision, *, alpha=0.05 / 3, bound=0.015):
    return Verdict(
        decision=decision,
        similarity=0.5,
        p_value=p_value,
        p_value_floor=0.01,
        alpha=alpha,
        error_bound=bound,
        null={},
        queries={},
        power={},
        scheme="random",
        fingerprint=f"p {p_value}",
        suspect="suspect",
        caveats=("common", f"of p {p_value}"),
    )


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.04, 0.01]) == pytest.approx((0.04, 0.02))
    assert holm([0.6, 0.7]) == (1.0, 1.0)
    assert holm([0.2]) == (0.2,)


def test_holm_is_between_bonferroni_and_nothing():
    drawn = np.random.default_rng(0).random((200, 4))
    for values in drawn:
        adjusted = np.array(holm(list(values)))
        assert (adjusted >= values - 1e-12).all()
        assert (adjusted <= np.minimum(1, 4 * values) + 1e-12).all()
        assert (np.diff(adjusted[np.argsort(values)]) >= 0).all()


def test_one_that_is_derived_decides():
    joined = combine([verdict(0.5, "unrelated"), verdict(0.012, "derived"), verdict(1.0, "inconclusive")], alpha=0.05)
    assert joined.decision == "derived"
    assert joined.p_value == pytest.approx(0.036)
    assert joined.adjusted[1] == joined.p_value
    assert joined.error_bound == pytest.approx(0.045)
    assert joined.caveats.count("common") == 1
    assert len(joined.caveats) == 4


@pytest.mark.parametrize(
    ("decisions", "expected"),
    [
        (("inconclusive", "unrelated", "inconclusive"), "unrelated"),
        (("inconclusive",) * 3, "inconclusive"),
    ],
)
def test_without_a_derived_one(decisions, expected):
    assert combine([verdict(0.5, each) for each in decisions], alpha=0.05).decision == expected


def test_several_fingerprints_are_adjusted_step_by_step_and_their_bounds_add_up():
    three = [verdict(p, "inconclusive", bound=0.4) for p in (0.02, 0.03, 0.5)]
    joined = combine(three, alpha=0.05)
    assert joined.adjusted == pytest.approx((0.06, 0.06, 0.5))
    assert joined.p_value == pytest.approx(0.06)
    assert joined.error_bound == 1.0


def test_verdicts_at_another_rate_are_refused():
    with pytest.raises(UsageError, match=r"tested at 0\.025 each; p 0\.01 was tested at 0\.05"):
        combine([verdict(0.01, "derived", alpha=0.05), verdict(0.5, "unrelated", alpha=0.025)], alpha=0.05)
    with pytest.raises(UsageError, match="at least one"):
        combine([], alpha=0.05)


def test_false_accusations_stay_below_alpha_when_the_fingerprints_share_their_suspect():
    """500 innocent suspects, three correlated schemes with nulls of 59 exchangeable models each."""
    generator = np.random.default_rng(1)
    alpha, accused, trials = 0.05, 0, 500
    for _ in range(trials):
        quality = generator.normal(size=60)
        verdicts = []
        for _ in range(3):
            scores = 1 / (1 + np.exp(-(quality + 0.5 * generator.normal(size=60))))
            null = Null("", tuple(NullModel(str(i)) for i in range(59)), tuple(scores[1:]))
            trial = Trial(Calibration(null), size=1, alpha=share_of_alpha(alpha, 3), per_query=False)
            trial.observe(scores[0])
            verdicts.append(trial.verdict(scheme="s", fingerprint="f", suspect="x"))
        accused += combine(verdicts, alpha=alpha).decision == "derived"
    assert 0 < accused <= alpha * trials + 3 * np.sqrt(alpha * (1 - alpha) * trials)


def test_of_suspects_the_worst_decides_and_p_values_are_multiplied():
    three = [verdict(0.5, "unrelated"), verdict(0.01, "derived"), verdict(0.2, "inconclusive")]
    joined = combine(three, alpha=0.05, over="suspects")
    assert joined.decision == "derived"
    assert joined.adjusted == pytest.approx((1.0, 0.03, 0.6))
    assert joined.p_value == pytest.approx(0.03)
    assert "multiplied by 3" in joined.caveats[0]
    assert joined.caveats[1] == "common"
    assert "suspect: of p 0.2" in joined.caveats
    clear = [verdict(0.5, "unrelated"), verdict(0.6, "unrelated"), verdict(0.7, "unrelated")]
    assert combine(clear, alpha=0.05, over="suspects").decision == "unrelated"
    assert combine([*clear[:2], three[2]], alpha=0.05, over="suspects").decision == "inconclusive"


def test_a_suspect_that_was_not_judged_counts_and_leaves_it_open():
    two = [verdict(0.5, "unrelated"), verdict(0.6, "unrelated")]
    joined = combine(two, alpha=0.05, over="suspects", refused={"broken": "no model"})
    assert joined.decision == "inconclusive"
    assert "multiplied by 3" in joined.caveats[0]
    assert (joined.over, joined.refused) == ("suspects", {"broken": "no model"})
    assert joined.error_bound == pytest.approx(0.03)
    none = combine([], alpha=0.05, over="suspects", refused={"broken": "no model"})
    assert (none.decision, none.p_value, none.adjusted) == ("inconclusive", 1.0, ())
    with pytest.raises(UsageError, match=r"2 suspects that share an alpha of 0\.05 are tested at 0\.025"):
        combine(two, alpha=0.05, over="suspects")


def test_of_two_rules_one_that_is_derived_decides():
    both = [verdict(0.04, "inconclusive", alpha=0.025), verdict(0.02, "derived", alpha=0.025)]
    both = [replace(each, queries={"spent": number}, scheme="random(seed=1)") for number, each in enumerate(both, 5)]
    joined = combine(both, alpha=0.05, over="rules")
    assert (joined.decision, joined.p_value) == ("derived", pytest.approx(0.04))
    assert "half of alpha, 0.025; the suspect was asked 5 by random and 6 by random" in joined.caveats[0]


def test_what_can_show_nothing_is_refused_with_the_number_that_would_do():
    check_reach(59, alpha=0.05, tests=3, models="twins", more="more")
    check_reach(39, alpha=0.05, tests=2, models="twins", more="more")
    with pytest.raises(UsageError, match=r"with 19 twins nothing can be called derived at 0\.01667: at least 59 are"):
        check_reach(19, alpha=0.05, tests=3, models="twins", more="more")
    with pytest.raises(UsageError, match="at least one"):
        check_reach(19, alpha=0.05, tests=0, models="twins", more="more")


def test_innocent_suspects_before_one_lineup_are_accused_together_no_more_often_than_alpha():
    """Suspects that all agree whom they resemble, or not at all: whatever their dependence, alpha holds for all."""
    generator, trials, twins, suspects = np.random.default_rng(2), 4000, 59, 3
    bound = 0.05 + 4 * np.sqrt(0.05 * 0.95 / trials)
    for shared in (0.0, 0.7, 1.0):
        accused = 0
        for _ in range(trials):
            common = generator.normal(size=twins + 1)
            own = generator.normal(size=(suspects, twins + 1))
            likeness = shared * common + np.sqrt(1 - shared**2) * own
            ranks = (likeness >= likeness[:, :1]).sum(1)
            accused += bool((ranks / (twins + 1) <= share_of_alpha(0.05, suspects) + 1e-12).any())
        assert 0 < accused / trials <= bound


def test_one_model_fewer_than_are_needed_is_refused():
    for null, tests in ((58, 3), (38, 2), (18, 1)):
        with pytest.raises(UsageError, match=f"at least {null + 1} are"):
            check_reach(null, alpha=0.05, tests=tests, models="twins", more="more")
