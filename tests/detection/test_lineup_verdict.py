"""What a verdict of a lineup says beside its rank."""

from __future__ import annotations

import numpy as np

from whorl.detection.lineup import Showing, place_of, rank
from whorl.detection.lineup_verdict import lineup_verdict
from whorl.fingerprints.terms import Terms

SHOWING = Showing("mixture", np.arange(20.0), 10, 20, 30, True, (), 16)


def held(terms, place=19):
    return lineup_verdict(SHOWING, place, terms, recipe="", fingerprint="f", suspect="s")


def test_a_reason_is_told_where_it_was_needed():
    equals = {"accuracy": (0.9,) * 20}
    told = held(Terms(reason="measured twice", figures=equals))
    assert told.decision == "derived"
    assert not any("stands outside" in each for each in told.caveats)
    best = {"accuracy": (0.8,) * 19 + (0.9,)}
    told = held(Terms(reason="measured twice", figures=best))
    assert told.decision == "derived"
    assert any(
        "stands outside of its twins, and the owner's reason is: measured twice" in each for each in told.caveats
    )


def test_what_was_fixed_beforehand_is_in_the_document():
    fixed = held(Terms(margin=8.0, agreements=24.0)).lineup["terms"]
    assert (fixed["questions"], fixed["margin"], fixed["seeds"]) == (30, 8.0, "unknown")
    counted = lineup_verdict(
        Showing("agreement", np.arange(20.0), 10, 20, 30, True), None, Terms(), recipe="", fingerprint="", suspect=""
    )
    assert counted.lineup["terms"]["margin"] == 24.0


def test_a_place_among_equals_is_a_range():
    assert place_of([3, 1, 2], 0) == (3, 3)
    assert place_of([1, 1, 2], 0) == (1, 2)


def test_what_was_not_measured_of_the_twins_is_told():
    assert any("nothing was measured" in each for each in held(Terms()).caveats)
    assert not any("nothing was measured" in each for each in held(Terms(figures={"loss": (0.1,) * 20})).caveats)


def test_totals_that_are_no_numbers_count_against_the_claim():
    assert rank([1.0, np.nan, 0.0], 0) == 2
    assert rank([np.nan, np.nan, np.nan], 1) == 3
    broken = Showing("residual", np.full(20, np.nan), 10, 20, 30, False)
    verdict = lineup_verdict(broken, 3, Terms(), recipe="", fingerprint="", suspect="")
    assert (verdict.decision, verdict.p_value) == ("inconclusive", 1.0)
