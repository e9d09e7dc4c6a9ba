"""What a verdict says beside its numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_verdict import answers, calibration, run

from whorl.detection import Trial
from whorl.detection.exchangeability import likeness
from whorl.types import Calibration


def test_the_pool_is_named():
    verdict = run(Trial(calibration(), size=100, alpha=0.05), answers(95))
    assert any("like those of the null: resnets trained on textures (199 models)" in each for each in verdict.caveats)
    nameless = replace(calibration().null, pool="")
    verdict = run(Trial(Calibration(nameless), size=100, alpha=0.05), answers(95))
    assert any("like those of the null: undescribed" in each for each in verdict.caveats)


def test_the_best_known_removal_is_named_where_none_is_enough():
    copies = {"distil": [0.0] * 5, "tune": [0.9] * 3, "prune": [0.9] * 2 + [0.0] * 4, "crop": [0.9], "wipe": [0.0]}
    verdict = run(Trial(calibration(**copies), size=100, alpha=0.05), answers(3))
    assert "best: tune, 3 of 3" in verdict.caveats[0]
    few = next(each for each in verdict.caveats if each.startswith("every copy was caught"))
    assert "crop (1 of 1" in few


def likeness_of(**figures):
    """How 199 models stand, of which none is like the suspect."""
    chance = np.random.default_rng(0)
    known = chance.integers(0, 4, 100)
    labels = np.where(chance.random((201, 100)) < 0.8, known, 9)
    found = likeness(labels[0], labels[1:200], labels[200], known)
    return replace(found, **{"more": 0.5, "less": 0.5, "victim_more": 0.5, "worse": 0.5, **figures})


def test_a_suspect_that_is_right_too_rarely_is_not_called_unrelated():
    known = calibration(fine_tune=[0.9] * 14)
    found = likeness_of(
        worse=0.001, accuracy=0.31, of_null={"accuracy": (0.62, 0.7, 0.8), "agreement": (0.1, 0.2, 0.3)}
    )
    verdict = run(Trial(known, size=100, alpha=0.05, likeness=found), answers(3))
    assert verdict.decision == "inconclusive"
    assert "answers 31% of the control pictures rightly, and models of the null 62% or more" in verdict.caveats[0]
    assert run(Trial(known, size=100, alpha=0.05, likeness=likeness_of()), answers(3)).decision == "unrelated"


def test_it_is_told_so_where_no_verdict_could_be_reached_either():
    """As where the description of a suspect has no units, and the fingerprint tells nothing apart."""
    known = calibration(fine_tune=[0.9] * 14)
    known = replace(known, null=replace(known.null, similarities=(1.0,) * len(known.null)))
    found = likeness_of(worse=0.001, accuracy=0.31)
    for likeness_, said in ((found, True), (likeness_of(), False)):
        verdict = run(Trial(known, size=100, alpha=0.05, likeness=likeness_), answers(3))
        assert verdict.decision == "inconclusive"
        assert any("tell copies apart" in each for each in verdict.caveats)
        assert any("units" in each and "31%" in each for each in verdict.caveats) is said


@pytest.mark.parametrize("more", [0.001, 0.5])
def test_a_victim_that_stands_above_the_null_is_told_of_in_a_sentence_of_its_own(more):
    found = likeness_of(more=more, victim_more=0.001)
    told = run(Trial(calibration(fine_tune=[0.9] * 14), size=100, alpha=0.05, likeness=found), answers(3)).caveats
    (one,) = (each for each in told if "the null's models are unlike it" in each)
    assert one.startswith("so does your own model") is (more < 0.5)
    assert one.startswith("your own model is more often right") is (more == 0.5)


@pytest.mark.parametrize(("less", "matches", "warned"), [(0.001, 3, True), (0.001, 95, False), (0.5, 3, False)])
def test_who_agrees_too_rarely_is_warned_of_where_it_is_called_unrelated(less, matches, warned):
    trial = Trial(calibration(fine_tune=[0.9] * 14), size=100, alpha=0.05, likeness=likeness_of(less=less))
    verdict = run(trial, answers(matches))
    assert any("a low similarity says less of it" in each for each in verdict.caveats) is warned
