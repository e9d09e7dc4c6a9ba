from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binom

from whorl.detection import Trial, measure_power, plan
from whorl.detection.groups import Groups, in_group
from whorl.detection.power import MOST_MISSED, copies_needed
from whorl.errors import UsageError
from whorl.metrics import clopper_pearson
from whorl.types import Calibration, Measured, Null, NullModel

NAMES = {"scheme": "ipguard(margin=5)", "fingerprint": "victim.fp", "suspect": "suspect.onnx"}


def null(similarities, siblings=0):
    names = tuple(NullModel(f"independent{i}") for i in range(len(similarities)))
    return Null("resnets trained on textures", names, tuple(similarities), siblings)


def calibration(count=199, **derived):
    """Independents that match on 0 to 10 % of the queries."""
    return Calibration(null(np.round(np.linspace(0, 0.1, count), 2)), {key: tuple(of) for key, of in derived.items()})


def answers(matches, size=100, seed=0):
    return np.random.default_rng(seed).permutation(np.arange(size) < matches).astype(float)


def run(trial, values):
    for value in values:
        if trial.settled:
            break
        trial.update([value])
    return trial.verdict(**NAMES)


def correlated(generator, runs, independents, size, rate=0.15, icc=0.3):
    """Match counts of exchangeable models whose own rates differ: ``[runs, independents + 1]``."""
    strength = 1 / icc - 1
    rates = generator.beta(rate * strength, (1 - rate) * strength, size=(runs, independents + 1))
    return generator.binomial(size, rates)


@pytest.mark.parametrize(("alpha", "independents"), [(0.05, 24), (0.05, 60), (0.01, 124)])
def test_false_accusations_stay_within_alpha_where_the_binomial_rule_does_not(alpha, independents):
    generator = np.random.default_rng(0)
    runs, size = 4000, 50
    counts = correlated(generator, runs, independents, size)
    derived, p_values = 0, np.empty(runs)
    for i, (suspect, *others) in enumerate(counts):
        trial = Trial(Calibration(null(np.array(others) / size)), size=size, alpha=alpha)
        p_values[i] = 1.0
        order = generator.permutation(np.arange(size) < suspect).astype(float)
        for part in np.split(order, [4, 8, 16, 32]):
            trial.update(part)
            p_values[i] = min(p_values[i], trial.p_value)
            if trial.derived:
                derived += 1
                break
    assert clopper_pearson(derived, runs).low <= alpha
    assert derived > 0
    for level in (alpha, 0.1, 0.2, 0.5):  # super-uniform at the best moment one could have picked
        assert clopper_pearson(int((p_values <= level).sum()), runs).low <= level

    pooled = counts[:, 1:].mean(axis=1) / size
    binomial = np.mean(binom.sf(counts[:, 0] - 1, size, pooled) <= alpha)
    assert binomial > 3 * alpha


def test_derived_stops_early():
    verdict = run(Trial(calibration(), size=100, alpha=0.05), answers(95))
    assert verdict.decision == "derived"
    assert verdict.p_value <= verdict.alpha == 0.05
    assert verdict.p_value_floor == pytest.approx(1 / 200 + 0.01)
    assert verdict.error_bound == pytest.approx(8 / 200 + 0.01)
    assert verdict.queries["stopped_early"]
    assert verdict.queries["spent"] < 10
    assert (verdict.queries["budget"], verdict.queries["size"]) == (100, 100)
    assert verdict.null["size"] == 199
    assert verdict.null["pool"] == "resnets trained on textures"
    assert verdict.null["quantiles"] == {"min": 0, "median": 0.05, "q90": 0.09, "q99": 0.1, "max": 0.1}
    assert any("who copied whom" in caveat for caveat in verdict.caveats)
    assert any("no model of the null shares a public ancestor" in caveat for caveat in verdict.caveats)


def test_a_tensor_of_evidence_is_taken_as_it_is():
    trial = Trial(calibration(), size=100, alpha=0.05)
    trial.update(torch.ones(10))
    assert trial.derived


def test_exactly_enough_independents_need_certainty():
    trial = Trial(calibration(19), size=100, alpha=0.05)
    trial.update(np.ones(10))  # equals the largest of the null, .1
    assert not trial.derived
    trial.update([1.0])
    assert trial.derived
    assert trial.p_value == 0.05


def test_unrelated_names_what_it_would_have_caught():
    calibrated = calibration(fine_tune=[0.9] * 22, extract=[0.05] * 8, prune=[0.9, 0.8], distil=[])
    verdict = run(Trial(calibrated, size=100, alpha=0.05), answers(5))
    assert verdict.decision == "unrelated"
    assert verdict.p_value > 0.05
    assert verdict.power["fine_tune"] == {
        "copies": 22,
        "caught": 22,
        "power": 1,
        "low": clopper_pearson(22, 22).low,
        "high": 1,
        "missed_at_most": pytest.approx(1 - (0.05 / 4) ** (1 / 22)),
    }
    assert verdict.power["extract"]["caught"] == 0
    assert verdict.power["distil"]["missed_at_most"] == 1
    caught = next(caveat for caveat in verdict.caveats if caveat.startswith("would have caught"))
    assert "fine_tune (22 of 22 copies)" in caught
    assert "at most 0.18 (95 % confidence" in caught
    few = next(caveat for caveat in verdict.caveats if caveat.startswith("every copy was caught"))
    assert "prune (2 of 2 copies)" in few
    assert "20 distinct copies" in few
    unseen = next(caveat for caveat in verdict.caveats if caveat.startswith("could not have seen"))
    assert all(name in unseen for name in ("extract (0 of 8", "distil (0 of 0", "any removal"))
    assert "prune" not in unseen, "what was caught is not called unseen"


def test_the_number_of_copies_that_a_verdict_asks_for_is_enough_and_no_more():
    for removals in (1, 3, 8):
        needed = copies_needed(removals)

        def missed(copies, removals=removals):
            known = {str(number): [0.9] * copies for number in range(removals)}
            null_ = calibration().null.similarities
            power = measure_power(known, null_, plan(null_, alpha=0.05), size=100, budget=100)
            return power["0"]["missed_at_most"]

        assert missed(needed) <= MOST_MISSED < missed(needed - 1)


def test_power_is_not_blamed_where_too_few_independents_are_the_cause():
    verdict = run(Trial(calibration(18), size=100, alpha=0.01), answers(3))
    assert verdict.decision == "inconclusive"
    assert "18 independent models" in verdict.caveats[0]


def test_a_suspect_is_ranked_in_every_group_unless_its_own_is_known():
    low, high = np.round(np.linspace(0, 0.1, 99), 3), np.round(np.linspace(0.5, 0.6, 99), 3)
    models = tuple(NullModel(str(number), group="vgg" if number < 99 else "resnet") for number in range(198))
    both = Calibration(Null("two kinds", models, (*low, *high)))
    trial = Trial(both, size=100, alpha=0.05)
    verdict = run(trial, answers(40))
    assert verdict.decision != "derived", "a resnet may be as alike"
    groups = {each["name"]: each for each in verdict.null["groups"]}
    assert (groups["vgg"]["size"], groups["resnet"]["size"]) == (99, 99)
    assert verdict.p_value == groups["resnet"]["p_value"] > 0.05
    assert run(Trial(in_group(both, "vgg"), size=100, alpha=0.05), answers(40)).decision == "derived"
    assert run(Trial(both, size=100, alpha=0.05), answers(95)).decision == "derived"
    with pytest.raises(UsageError, match="'resnet', 'vgg'"):
        in_group(both, "vit")
    few = replace(both.null, models=models[:104], similarities=both.null.similarities[:104])
    verdict = run(Trial(Calibration(few), size=100, alpha=0.05), answers(95))
    assert "the group 'resnet' of the null holds 5 independent models" in verdict.caveats[0]


def test_futility_stops_as_soon_as_even_a_run_of_matches_cannot_help():
    trial = Trial(calibration(19, fine_tune=[0.9] * 14), size=100, alpha=0.05)  # more than 10 matches are needed
    trial.update(np.zeros(89))
    assert not trial.settled
    trial.update([0.0])
    assert trial.futile
    assert trial.settled
    verdict = trial.verdict(**NAMES)
    assert (verdict.decision, verdict.queries["spent"], verdict.queries["stopped_early"]) == ("unrelated", 90, True)


def test_without_power_a_low_similarity_says_little():
    for copies in ({}, {"fine_tune": [0.9] * 13}, {"extract": [0.01] * 30}):
        verdict = run(Trial(calibration(**copies), size=100, alpha=0.05), answers(3))
        assert verdict.decision == "inconclusive"
        assert "low similarity says little" in verdict.caveats[0]
        assert "14 copies" in verdict.caveats[0]
    assert run(Trial(calibration(fine_tune=[0.9] * 14), size=100, alpha=0.05), answers(3)).decision == "unrelated"


def test_without_calibration_everything_is_asked_and_nothing_decided():
    trial = Trial(None, size=100, alpha=0.05)
    verdict = run(trial, np.ones(100))
    assert (verdict.decision, verdict.similarity, verdict.p_value) == ("inconclusive", 1.0, 1.0)
    assert verdict.queries["spent"] == 100
    assert (verdict.null["size"], verdict.null["quantiles"], verdict.null["models"]) == (0, {}, [])
    assert "no independent model" in verdict.caveats[0]
    assert not any("neutral probes" in caveat for caveat in verdict.caveats), "there is nothing to be like"
    assert "at least 19" in verdict.caveats[0]
    assert "whorl calibrate" in verdict.caveats[0]


def test_too_few_independents_say_how_many_are_needed():
    verdict = run(Trial(calibration(18), size=100, alpha=0.01), np.ones(100))
    assert verdict.decision == "inconclusive"
    assert verdict.p_value == verdict.p_value_floor == pytest.approx(1 / 19)
    assert verdict.error_bound == 0
    assert verdict.queries["spent"] == 100
    assert "18 independent models" in verdict.caveats[0]
    assert "at least 99" in verdict.caveats[0]


def test_an_interrupted_test_is_inconclusive():
    trial = Trial(calibration(fine_tune=[0.9] * 8), size=100, alpha=0.05)
    trial.update([0.0, 0.0])
    verdict = trial.verdict(**NAMES)
    assert verdict.decision == "inconclusive"
    assert "stopped after 2 of 100" in verdict.caveats[0]


def test_a_budget_too_small_for_any_copy_says_how_much_is_needed():
    trial = Trial(calibration(fine_tune=[1.0] * 8), size=100, alpha=0.05, budget=1)
    verdict = run(trial, [1.0])
    assert (verdict.decision, verdict.queries["spent"]) == ("inconclusive", 1)
    assert verdict.power["fine_tune"]["caught"] == 0
    least = int(verdict.caveats[0].rsplit(" ", 1)[1])
    assert run(Trial(calibration(), size=100, alpha=0.05, budget=least), np.ones(100)).decision == "derived"
    assert run(Trial(calibration(), size=100, alpha=0.05, budget=least - 1), np.ones(100)).decision == "inconclusive"


def test_a_null_that_matches_everywhere_cannot_accuse():
    verdict = run(Trial(Calibration(null([1.0] * 30)), size=20, alpha=0.05), np.ones(20))
    assert verdict.decision == "inconclusive"
    assert "independent models match on every query" in verdict.caveats[0]


def test_a_high_similarity_on_a_small_budget_is_not_called_unrelated():
    trial = Trial(calibration(fine_tune=[1.0] * 8), size=100, alpha=0.05, budget=6)
    verdict = run(trial, [0, 0, 1, 0, 0, 1])
    assert verdict.similarity > 0.1
    assert verdict.decision == "inconclusive"
    assert "larger budget" in verdict.caveats[0]


def test_power_on_a_budget_is_that_of_the_sequential_test():
    similarities = [0.09, 0.5, 1.0]
    known = calibration().null.similarities
    made = plan(known, alpha=0.05)

    def caught(size, budget):
        power = measure_power({str(s): [s] for s in similarities}, known, made, size=size, budget=budget)
        return [power[str(s)]["caught"] for s in similarities]

    assert caught(100, 100) == [0, 1, 1]
    assert caught(100, 6) == [0, 0, 1]  # six queries of a half-alike copy are too often unlucky
    generator = np.random.default_rng(7)
    flagged = 0
    for _ in range(300):
        trial = Trial(calibration(), size=100, alpha=0.05, budget=6)
        trial.update(generator.permutation(np.arange(100) < 50)[:6].astype(float))
        flagged += trial.derived
    assert 0 < flagged / 300 < 0.95


def test_a_scheme_without_per_query_evidence_ranks_the_whole():
    calibrated = Calibration(null(np.linspace(-3, -2, 99)), {"fine_tune": (-0.5,) * 14})
    trial = Trial(calibrated, size=64, alpha=0.01, per_query=False)
    assert not trial.settled
    trial.observe(-1.0)
    assert trial.settled
    verdict = trial.verdict(**NAMES)
    assert (verdict.decision, verdict.p_value, verdict.error_bound) == ("derived", 0.01, 0.01)
    assert verdict.queries == {"spent": 64, "budget": 64, "size": 64, "stopped_early": False}
    tie = Trial(calibrated, size=64, alpha=0.01, per_query=False)
    tie.observe(-2.0)
    assert tie.verdict(**NAMES).decision == "unrelated"


def test_siblings_are_told():
    verdict = run(Trial(Calibration(null([0.1] * 30, siblings=4)), size=50, alpha=0.05), np.ones(50))
    assert any("4 of the null share a public ancestor" in caveat for caveat in verdict.caveats)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Trial(None, size=10, alpha=0.05, budget=0), "at least one query"),
        (lambda: Trial(None, size=10, alpha=0.05, budget=5, per_query=False), "as a whole"),
        (lambda: Trial(Calibration(null([-1.0])), size=10, alpha=0.05), "calibrate again"),
        (lambda: Trial(None, size=10, alpha=0.05, budget=2).update([1, 1, 1]), "3 queries were asked on a budget of 2"),
        (lambda: Trial(None, size=10, alpha=0.05).observe(0.5), "per_query=False"),
        (lambda: Trial(None, size=10, alpha=0.05, per_query=False).update([0.5]), "observe"),
        (lambda: Trial(None, size=10, alpha=0.05).verdict(**NAMES), "no query was answered"),
    ],
)
def test_misuse_is_named(call, says):
    with pytest.raises(UsageError, match=says):
        call()


def test_a_group_alone_takes_its_own_models_and_what_interfaces_measured_of_them():
    models = tuple(NullModel(str(number), group="ab"[number % 2]) for number in range(6))
    known = Null("nets", models, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), 2, probes=torch.arange(12).reshape(6, 2))
    seen = Measured((0.6, 0.5, 0.4, 0.3, 0.2, 0.1), {})
    one = in_group(Calibration(known, interfaces={"top-1": seen}), "b")
    assert (one.null.siblings, one.interfaces["top-1"].similarities) == (2, (0.5, 0.3, 0.1))
    assert [model.name for model in one.null.models] == ["1", "3", "5"]
    assert one.null.similarities == (0.2, 0.4, 0.6)
    assert one.null.probes.tolist() == [[2, 3], [6, 7], [10, 11]]


def test_the_document_of_a_null_holds_its_spread_and_every_model():
    values = (0.4, 0.1, 0.3, 0.2, 0.0)
    models = tuple(NullModel(f"net {number}", group="ab"[number > 2]) for number in range(5))
    known = Null("nets", models, values, 3, origin="judge")
    told = run(Trial(Calibration(known), size=100, alpha=0.05), answers(10)).null
    assert (told["pool"], told["origin"], told["size"], told["siblings"]) == ("nets", "judge", 5, 3)
    assert told["quantiles"] == {"min": 0.0, "median": 0.2, "q90": 0.4, "q99": 0.4, "max": 0.4}
    assert [(each["name"], each["size"]) for each in told["groups"]] == [("a", 3), ("b", 2)]
    assert [(each["name"], each["similarity"]) for each in told["models"]] == [
        (f"net {number}", value) for number, value in enumerate(values)
    ]


def test_what_holds_of_all_groups_is_the_worst_of_each():
    sizes = {"a": 19, "b": 39}
    models = tuple(NullModel(f"{name}{number}", group=name) for name, size in sizes.items() for number in range(size))
    values = (*np.linspace(0.1, 0.2, 19), *np.linspace(0.5, 0.6, 39))
    groups = Groups(Null("nets", models, values), alpha=0.05, sampling_error=None)
    a, b = groups.plans["a"], groups.plans["b"]
    assert a.sampling_error == b.sampling_error
    assert groups.plan.threshold == b.threshold > a.threshold
    assert groups.plan.p_value_floor == a.p_value_floor > b.p_value_floor
    assert groups.plan.error_bound == max(a.error_bound, b.error_bound)
    assert groups.plan.sufficient == (a.sufficient and b.sufficient)
    assert groups.smallest == ("a", a)


def whole(similarity, **options):
    trial = Trial(Calibration(null(np.linspace(0, 0.99, 100)[:99])), size=64, alpha=0.05, per_query=False, **options)
    trial.observe(similarity)
    return trial


def test_of_a_whole_that_is_asked_anyway_alpha_is_all_spent_on_ranks():
    """5 of 100 ranks: as alike as the fifth is not enough, and more than the fifth is."""
    assert whole(1.0).verdict(**NAMES).p_value == 0.01
    assert whole(0.945).derived
    assert not whole(0.94).derived
    assert whole(0.945).verdict(**NAMES).error_bound == 0.05


def test_a_null_beyond_the_range_of_means_is_refused_on_either_side():
    for beyond in (-0.1, 1.1):
        with pytest.raises(UsageError, match="calibrate again"):
            Trial(Calibration(null([0.5, beyond])), size=10, alpha=0.05)


def test_nothing_that_is_revealed_changes_nothing():
    trial = Trial(None, size=10, alpha=0.05, budget=2)
    trial.update([])
    assert trial.asked == 0
    trial.update([1.0])
    with pytest.raises(UsageError, match=r"^3 queries were asked on a budget of 2"):
        trial.update([1.0, 1.0])


def test_what_could_not_be_seen_is_told_unless_the_suspect_is_derived():
    for matches, unseen in ((95, False), (3, True)):
        verdict = run(Trial(calibration(fine_tune=[0.9] * 14), size=100, alpha=0.05), answers(matches))
        assert any("could not have seen" in each for each in verdict.caveats) is unseen
    assert "could not have seen: any removal that the calibration does not hold" in verdict.caveats


def test_as_alike_as_the_threshold_on_a_small_budget_is_not_above_it():
    above = [run_at_once([0.0] * 8 + [1.0] * matches, 0.1) for matches in (1, 2)]
    assert ["larger budget" in each.caveats[0] for each in above] == [False, True]


def run_at_once(values, threshold):
    """Nulls that are all at the threshold, and nine or ten of a hundred queries."""
    values = [*values[-10:], *[0.0] * (10 - len(values))]
    trial = Trial(Calibration(null([threshold] * 199), {"tune": (1.0,) * 14}), size=100, alpha=0.05, budget=10)
    trial.update(values)
    return trial.verdict(**NAMES)


def test_without_a_null_there_is_one_group_without_a_name():
    verdict = run(Trial(None, size=10, alpha=0.05), np.ones(10))
    assert (verdict.null["pool"], verdict.null["groups"]) == ("", [{"name": "", "size": 0, "p_value": 1.0}])
    assert "the null holds no independent model" in verdict.caveats[0]
    assert "group" not in verdict.caveats[0]
    with pytest.raises(UsageError, match=r"its groups are none$"):
        in_group(Calibration(Null(pool="", models=(), similarities=())), "vgg")
