"""What can be seen on neutral inputs: that a suspect, or the victim, is no model like those of the null."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from whorl.detection import Trial
from whorl.detection.exchangeability import CAVEAT, MANY, clusters, likeness
from whorl.errors import UsageError
from whorl.metrics import clopper_pearson
from whorl.types import Calibration, Null, NullModel

PROBES, CLASSES, NULL = 180, 10, 99


def models(generator, known, rights):
    """Labels of models that are right with the given chances, on some probes more than on others."""
    ease = generator.beta(4, 2, size=len(known))
    rows = []
    for right in rights:
        hit = generator.random(len(known)) < right + (1 - right) * (ease - 0.5)
        rows.append(np.where(hit, known, generator.integers(0, CLASSES, len(known))))
    return np.array(rows)


def draw(seed, suspect=0.8, victim=0.8, null=0.8, spread=0.02):
    generator = np.random.default_rng(seed)
    known = generator.integers(0, CLASSES, PROBES)
    rights = generator.normal([suspect, victim, *[null] * NULL], spread)
    labels = models(generator, known, rights)
    return likeness(labels[0], labels[2:], labels[1], known)


def test_a_suspect_like_the_null_is_warned_of_no_more_often_than_said():
    found = [draw(seed) for seed in range(300)]
    for name in ("above", "victim_above", "below"):
        count = sum(getattr(each, name) for each in found)
        assert clopper_pearson(count, len(found)).low <= CAVEAT
        assert count, "a test that can't fire shows nothing"
    assert clopper_pearson(sum(each.degraded for each in found), len(found)).low <= 0.02


def test_suspects_and_victims_that_are_better_than_the_null_show():
    assert np.mean([draw(seed, suspect=0.95).above for seed in range(40)]) > 0.9
    assert np.mean([draw(seed, victim=0.95).victim_above for seed in range(40)]) > 0.9
    worse = [draw(seed, suspect=0.5) for seed in range(40)]
    assert np.mean([each.below and each.degraded and not each.above for each in worse]) > 0.9


def sure(labels, known, right, generator):
    """Probabilities whose largest is the label's: ``right`` of it on average, more or less from model to model."""
    share = np.clip(right + generator.normal(0, 0.01, (len(labels), 1)), 0, 1) * np.ones(labels.shape)
    rest = np.repeat((1 - share)[..., None] / (CLASSES - 1), CLASSES, axis=2)
    np.put_along_axis(rest, labels[..., None], share[..., None], axis=2)
    return rest.astype(np.float32)


def draw_sure(seed, suspect=0.8, victim=0.8, null=0.8):
    generator = np.random.default_rng(seed)
    known = generator.integers(0, CLASSES, PROBES)
    labels = models(generator, known, generator.normal(0.8, 0.02, NULL + 2))
    rights = np.array([suspect, victim, *[null] * NULL])[:, None]
    answers = sure(labels, known, rights, generator)
    return answers, known, likeness(answers[0], answers[2:], answers[1], known)


def test_models_that_are_surer_than_the_null_show_though_their_labels_do_not():
    assert np.mean([draw_sure(seed, suspect=0.95, null=0.5)[2].above for seed in range(30)]) > 0.8
    found = [draw_sure(seed, victim=0.95, suspect=0.5, null=0.5)[2] for seed in range(30)]
    assert np.mean([each.victim_above for each in found]) > 0.8
    assert np.mean([each.above for each in found]) < 0.2
    like = [draw_sure(seed)[2] for seed in range(200)]
    assert clopper_pearson(sum(each.above for each in like), len(like)).low <= CAVEAT
    assert 0.6 < like[0].confidence < 0.7, "right in some .8, and .8 sure"


def test_confidence_is_compared_among_probabilities_alone():
    answers, known, _ = draw_sure(0, suspect=1.0, victim=0.8)
    labels = answers.argmax(2)
    mixed = likeness(labels[0], answers[2:], answers[1], known)
    assert mixed.confidence is None
    alone = likeness(labels[0], labels[2:], labels[1], known)
    for name in ("accuracy", "agreement"):
        assert (mixed.of_null[name], mixed.of_victim[name]) == (alone.of_null[name], alone.of_victim[name])
    assert (mixed.more, mixed.victim_more, mixed.less, mixed.worse) == (
        *(alone.more, alone.victim_more),
        *(alone.less, alone.worse),
    )
    assert mixed.of_victim["distance"] != alone.of_victim["distance"], "the victim and the null gave probabilities"


def test_a_copy_that_was_made_surer_does_not_stand_higher_for_a_verdict():
    answers, known, plain = draw_sure(1, suspect=0.5, null=0.5)
    sharpened = np.where(answers[0] == answers[0].max(1, keepdims=True), 1.0, 0.0).astype(np.float32)
    found = likeness(sharpened, answers[2:], answers[1], known)
    assert found.above
    assert not plain.above
    assert found.standing == pytest.approx(plain.standing)
    assert not found.explains(0.95, 0.2 + 0.02 * found.standings, 0.05)


def test_figures_are_those_of_the_models():
    known = np.array([0, 1, 2, -1])
    null = np.array([[0, 1, 2, 3], [0, 1, 0, 3], [1, 1, 2, 2]])
    found = likeness(np.array([0, 1, 2, 3]), null, np.array([0, 0, 0, 3]), known)
    assert found.accuracy == 1
    assert found.of_null["accuracy"] == pytest.approx((2 / 3, 2 / 3, 1))
    assert found.of_victim["accuracy"] == pytest.approx(1 / 3)
    assert found.agreement == pytest.approx((1 + 0.75 + 0.5) / 3)
    without = likeness(np.array([0, 1, 2, 3]), null, np.array([0, 0, 0, 3]), np.full(4, -1))
    assert without.accuracy is None
    assert without.worse == 1
    with pytest.raises(UsageError, match="two models"):
        likeness(null[0], null[:1], null[1], known)


def trial(seed, standing_explains):
    """A suspect that is better than the null, and as alike as that explains or as a copy is."""
    found = draw(seed, suspect=0.97)
    noise = np.random.default_rng(seed).normal(0, 0.005, NULL)
    null = np.clip(0.2 + 0.02 * found.standings + noise, 0, 1)
    names = tuple(NullModel(str(number)) for number in range(NULL))
    calibration = Calibration(Null("weak models", names, tuple(null)), {"fine_tune": (1.0,) * 14})
    made = Trial(calibration, size=100, alpha=0.05, per_query=False, likeness=found)
    made.observe(0.2 + 0.02 * found.standing if standing_explains else 0.95)
    return made


def test_what_standing_explains_is_not_called_derived_and_a_copy_is():
    names = {"scheme": "random", "fingerprint": "a.fp", "suspect": "b.onnx"}
    stranger, copy = trial(3, True), trial(3, False)
    assert stranger.derived, "its similarity is above that of the null"
    verdict = stranger.verdict(**names)
    assert verdict.decision == "inconclusive"
    assert "stranger of that standing may be as alike" in verdict.caveats[0]
    verdict = copy.verdict(**names)
    assert verdict.decision == "derived"
    assert any("more often right, or surer, or agrees more" in caveat for caveat in verdict.caveats)
    assert verdict.likeness["p_more"] <= CAVEAT


def test_families_of_tunes_count_once():
    generator = np.random.default_rng(0)
    families = generator.dirichlet(np.ones(CLASSES), size=(20, 60))
    tuned = np.concatenate([0.95 * families + 0.05 * generator.dirichlet(np.ones(CLASSES), (20, 60)) for _ in "abc"])
    assert len(clusters(tuned)) == 20
    assert {len(group) for group in clusters(tuned)} == {3}
    assert len(clusters(families)) == 20
    labels = families.argmax(2)
    assert len(clusters(np.concatenate([labels, labels[:5]]))) == 20


def test_many_classes_do_not_make_the_comparison_of_models_grow_without_bound(monkeypatch):
    monkeypatch.setattr("whorl.detection.exchangeability.MOST_COMPARED", 1)
    generator = np.random.default_rng(1)
    families = generator.dirichlet(np.ones(CLASSES), size=(6, 60))
    changed = families.copy()
    changed[:, 8:] = generator.dirichlet(np.ones(CLASSES), size=(6, 52))
    assert len(clusters(np.concatenate([families, changed]))) == 6, "the first eight probes alone are compared"


def standing(values, own, **changes):
    """A likeness of these standings alone."""
    found = likeness(np.array([0, 1]), np.array([[0, 1]] * 2), np.array([0, 1]), np.array([0, 1]))
    return replace(found, standings=np.asarray(values, dtype=float), standing=own, **changes)


def test_what_a_standing_explains_is_read_off_the_line_of_the_null():
    line = standing(np.arange(19.0), 30.0)
    null = 0.5 * np.arange(19.0)
    assert line.explains(15.0, null, 0.05)  # on the line
    assert not line.explains(15.1, null, 0.05)  # above all residuals: 1/20 is not above alpha
    assert line.explains(15.1, null, 0.049)
    falling = standing(np.arange(19.0), -30.0)
    assert falling.explains(9.0, null[::-1], 0.05)  # the line is level: ranked among the similarities themselves
    assert not falling.explains(9.1, null[::-1], 0.05)
    assert standing(np.ones(19), 2.0).explains(9.0, null, 0.05)  # no slope where all stand alike


@pytest.mark.parametrize("name", ["above", "victim_above", "below"])
def test_the_first_of_few_models_is_warned_of(name):
    """A rank among nine cannot go below a tenth."""
    figure = {"above": "more", "victim_above": "victim_more", "below": "less"}[name]
    assert getattr(standing(np.arange(9.0), 0.0, **{figure: 0.1}), name)
    assert not getattr(standing(np.arange(9.0), 0.0, **{figure: 0.2}), name)
    assert not getattr(standing(np.arange(1000.0), 0.0, **{figure: CAVEAT * 1.01}), name)


def test_models_that_differ_by_a_quarter_of_a_usual_pair_are_one():
    """One class of two, so that the total variation is the difference of its probability."""
    chances = np.array([0.0, 0.1, 0.5, 1.0, 0.55, 0.6])
    answers = np.stack([chances, 1 - chances], 1)[:, None, :].repeat(MANY, 1)
    apart = np.abs(chances[:, None] - chances)[np.triu_indices(6, 1)]
    assert 0.1 < 0.25 * np.median(apart) < 0.4
    assert clusters(answers) == [[2, 4, 5], [0, 1], [3]]  # the largest first; 2 and 5 are linked by 4
    assert clusters(answers[:2]) == [[0], [1]]
    assert len(clusters(answers[:, : MANY // 8])) == 6, "so few probes show it of none"


def test_the_document_of_a_likeness_holds_all_that_was_found():
    found = replace(
        standing(np.arange(9.0), 0.0),
        accuracy=0.9,
        agreement=0.8,
        confidence=0.7,
        of_null={"agreement": (0.1, 0.2, 0.3)},
        of_victim={"agreement": 0.6},
        more=0.01,
        victim_more=0.02,
        victim_apart=0.05,
        less=0.03,
        worse=0.04,
    )
    assert found.document() == {
        "accuracy": 0.9,
        "agreement": 0.8,
        "confidence": 0.7,
        "of_null": {"agreement": [0.1, 0.2, 0.3]},
        "of_victim": {"agreement": 0.6},
        "p_more": 0.01,
        "p_victim_more": 0.02,
        "p_victim_apart": 0.05,
        "p_less": 0.03,
        "p_worse": 0.04,
    }


@pytest.mark.parametrize(
    ("name", "figure", "level"),
    [
        *(("above", "more", 0.02), ("victim_above", "victim_more", 0.02)),
        *(("below", "less", 0.02), ("degraded", "worse", 0.01)),
    ],
)
def test_a_rank_of_just_the_level_is_warned_of(name, figure, level):
    """2 of 100, and 2 of 200: the error is at most so much, so that these count."""
    assert getattr(standing(np.arange(2 / level - 1), 0.0, **{figure: level}), name)
    assert not getattr(standing(np.arange(2 / level - 1), 0.0, **{figure: 1.5 * level}), name)


def test_the_second_of_few_models_is_not_warned_of():
    assert standing(np.arange(3.0), 0.0, more=1 / 4).above
    assert not standing(np.arange(3.0), 0.0, more=2 / 4).above


def test_a_line_of_standings_that_hardly_differ_is_as_steep_as_they_say():
    line = standing(0.01 * np.arange(19.0), 0.3)
    null = 0.5 * np.arange(19.0)
    assert line.explains(15.0, null, 0.05)
    assert not line.explains(15.1, null, 0.05)


def test_who_agrees_as_much_and_is_right_more_often_stands_higher():
    """Both share one label of three with each model of the null; one is right on all probes, the other on one."""
    known, null = np.zeros(3, int), np.array([[0, 3, 4], [5, 1, 0]])
    right, wrong = (likeness(np.array(each), null, known, known) for each in ([0, 0, 0], [0, 1, 7]))
    assert right.agreement == wrong.agreement == pytest.approx(1 / 3)
    assert right.standing > wrong.standing


def one_hot(places, models=6):
    """``[models, probes, models]``: a class of its own for each model on the probes at ``places``, else the first."""
    answers = np.zeros((models, 30, models))
    answers[:, :, 0] = 1
    for model in range(models):
        answers[model, places] = np.eye(models)[model]
    return answers


@pytest.mark.parametrize(
    ("most", "place", "apart"),
    [(1, 7, True), (1, 8, False), (6**2 * 6 * 10, 9, True), (6**2 * 6 * 10, 10, False)],
)
def test_so_many_probes_are_compared_as_the_bound_allows_and_eight_at_least(monkeypatch, most, place, apart):
    monkeypatch.setattr("whorl.detection.exchangeability.MOST_COMPARED", most)
    assert len(clusters(one_hot([place]))) == (6 if apart else 1)


def test_two_alike_of_three_are_one():
    chances = np.array([0.1, 0.1, 0.9])
    assert clusters(np.stack([chances, 1 - chances], 1)[:, None, :]) == [[0, 1], [2]]


def test_the_usual_pair_is_the_median_of_all_pairs():
    """Two pairs whose members lie .1 apart, and the pairs about .8; neighbours in the list count as well."""
    chances = np.array([0.0, 0.8, 0.1, 0.9])
    answers = np.stack([chances, 1 - chances], 1)[:, None, :].repeat(MANY, 1)
    assert clusters(answers) == [[0, 2], [1, 3]]


@pytest.mark.parametrize("probes", [24, 48, 180])
def test_models_that_agree_on_the_hard_probes_by_chance_are_not_one(probes):
    """Accurate models: sure of one class nearly everywhere, each in its measure, and torn on one probe in twenty."""
    chance, wrong = np.random.default_rng(0), 0
    for _ in range(20):
        sure = 1 / (1 + np.exp(-chance.normal(6, 2, (99, probes))))
        hard = chance.random(probes) < 0.05
        first = np.where(hard, chance.random((99, probes)) < 0.5, sure)
        wrong += len(clusters(np.stack([first, 1 - first], 2))) < 99
    assert wrong <= 1


def test_copies_that_are_near_everywhere_are_one():
    chance = np.random.default_rng(1)
    logits = chance.normal(6, 2, (40, MANY)) * np.where(chance.random((40, MANY)) < 0.1, -0.2, 1)
    copies = logits[:5] + chance.normal(0, 0.02, (5, MANY))
    first = 1 / (1 + np.exp(-np.concatenate([logits, copies])))
    found = clusters(np.stack([first, 1 - first], 2))
    assert sorted(map(tuple, found))[:5] == [(place, 40 + place) for place in range(5)]
    assert len(found) == 40


def test_how_often_a_victim_like_the_null_is_taken_for_one_of_another_recipe():
    """One of 100 exchangeable models is the farthest from all others: at the level of .01, one in a hundred."""
    generator = np.random.default_rng(7)
    outside = 0
    for _ in range(300):
        answers = generator.dirichlet(np.ones(CLASSES), size=(NULL + 2, 12))
        known = np.zeros(12, dtype=np.int64)
        found = likeness(answers[0], answers[2:], answers[1], known)
        outside += found.victim_outside
        assert found.of_null["distance"][0] <= found.of_null["distance"][2]
    assert outside <= 3 + 3 * 3**0.5
    shifted = np.concatenate([generator.dirichlet(np.ones(CLASSES) * 9, size=(1, 12)), answers[2:]])
    assert likeness(answers[0], shifted[1:], shifted[0], known).victim_apart > 0.01, "nearer is no fault"
    apart = np.eye(CLASSES)[generator.integers(0, CLASSES, 12)]
    assert likeness(answers[0], answers[2:], apart, known).victim_outside
    labels = answers.argmax(2)
    far = likeness(labels[0], labels[2:], np.full(12, 99), np.full(12, -1))
    assert (far.victim_outside, far.of_victim["distance"]) == (True, 1.0)
