"""What a verdict of a lineup says beside its rank."""

from __future__ import annotations

import numpy as np

from whorl.detection.lineup import Showing, place_of, rank
from whorl.detection.lineup_verdict import lineup_verdict
from whorl.fingerprints.terms import Terms

SHOWING = Showing("mixture", np.arange(20.0), 10, 20, 30, True, (), 16)


def held(terms, place=19):
    return lineup_verdict(SHOWING, place, terms, recipe="", fingerprint="f", suspect="s")


def test_the_first_caveat_names_who_made_the_twins():
    for place in (19, 3, None):
        told = held(Terms(), place)
        assert (told.grade, told.null["origin"]) == ("D", "owner")
        assert told.caveats[0].startswith("the null was chosen by whoever made this fingerprint: the error rate rests")
        assert "all 19 twins were made as the victim was" in told.caveats[0]
    judged = lineup_verdict(SHOWING, 19, Terms(), recipe="", fingerprint="f", suspect="s", origin="judge")
    assert (judged.grade, judged.null["origin"]) == ("C", "judge")
    assert judged.caveats[0] == "the null was chosen by the judge (grade C)"


def test_a_reason_is_told_where_it_was_needed_and_lifts_the_figure_that_it_names():
    equals = {"accuracy": (0.9,) * 20}
    told = held(Terms(reasons={"accuracy": "measured twice"}, figures=equals))
    assert told.decision == "derived"
    assert not any("stands outside" in each for each in told.caveats)
    best = {"accuracy": (0.8,) * 19 + (0.9,), "loss": (0.2,) * 19 + (0.1,)}
    told = held(Terms(reasons={"accuracy": "measured twice"}, figures=best))
    assert told.decision == "inconclusive", "nobody said why the loss is the least"
    assert "of all candidates your model has the least loss." in told.caveats[1]
    assert "--reason loss=" in told.caveats[1]
    told = held(Terms(reasons={"accuracy": "measured twice", "loss": "rounded"}, figures=best))
    assert told.decision == "derived"
    for figure, why in (("the most accuracy", "measured twice"), ("the least loss", "rounded")):
        said = f"as it has {figure}, and the owner's reason, given after that was known, is: {why}"
        assert any(said in each for each in told.caveats)


def test_twins_of_another_net_convict_nobody_however_few_they_are():
    one = {"parameters": (1000.0,) * 18 + (999.0, 1000.0)}
    told = held(Terms(figures=one))
    assert told.decision == "inconclusive"
    assert "your model has a number of parameters that not every twin has" in told.caveats[1]
    assert "by chance" not in told.caveats[1]
    assert held(Terms(figures={"parameters": (1000.0,) * 20})).decision == "derived"


def test_whether_architectures_were_seen_is_told():
    def unseen(figures):
        return any("architecture was not seen" in each for each in held(Terms(figures=figures)).caveats)

    assert unseen({"loss": (0.1,) * 20})
    assert not unseen({"parameters": (5.0,) * 20})


def test_nets_that_stood_in_another_role_take_the_word_exact_away():
    assert held(Terms(seeds="secret")).lineup["exact"]
    for terms, turned in ((Terms(seeds="secret", turned=2), 0), (Terms(seeds="secret"), 2)):
        told = lineup_verdict(SHOWING, 19, terms, recipe="", fingerprint="f", suspect="s", turned=turned)
        assert not told.lineup["exact"]
        (said,) = [each for each in told.caveats if "another role" in each]
        assert "in 2 other lineups" in said
        assert "up to 3 times alpha" in said


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
    assert any("nothing was measured" in each for each in held(Terms(figures={"parameters": (9.0,) * 20})).caveats)
    assert not any("nothing was measured" in each for each in held(Terms(figures={"loss": (0.1,) * 20})).caveats)


def test_totals_that_are_no_numbers_count_against_the_claim():
    assert rank([1.0, np.nan, 0.0], 0) == 2
    assert rank([np.nan, np.nan, np.nan], 1) == 3
    broken = Showing("residual", np.full(20, np.nan), 10, 20, 30, False)
    verdict = lineup_verdict(broken, 3, Terms(), recipe="", fingerprint="", suspect="")
    assert (verdict.decision, verdict.p_value) == ("inconclusive", 1.0)
