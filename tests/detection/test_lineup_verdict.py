"""What a verdict of a lineup says beside its rank."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from whorl.detection.lineup import Showing, place_of, rank
from whorl.detection.lineup_verdict import lineup_verdict
from whorl.detection.power import copies_needed
from whorl.detection.verdict import Trial
from whorl.fingerprints.terms import Terms
from whorl.report.lineup import lineup_of

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


def test_the_rates_of_a_lineup_follow_from_its_size():
    told = held(Terms(alpha=0.12))
    assert (told.p_value, told.p_value_floor, told.alpha) == (1 / 20, 1 / 20, 0.12)
    assert told.error_bound == 2 / 20  # as many of 20 places as alpha holds
    assert held(Terms(alpha=0.05)).error_bound == 1 / 20
    assert (told.null["pool"], told.null["size"], told.null["siblings"]) == ("twins of the victim (19)", 19, 0)
    assert told.queries == {"spent": 16, "needed": 10, "budget": 20, "size": 30, "stopped_early": True}
    whole = Showing("mixture", np.arange(20.0), 20, 20, 30, False, (), 20)
    told = lineup_verdict(whole, 19, Terms(), recipe="", fingerprint="f", suspect="s")
    assert not told.queries["stopped_early"]


def test_twins_that_are_too_few_for_alpha_convict_nobody():
    few = held(Terms(alpha=0.01))
    assert (few.decision, few.p_value) == ("inconclusive", 1 / 20)
    assert any("holds 19 twins" in each and "at least 99 are needed" in each for each in few.caveats)
    shared = lineup_verdict(SHOWING, 18, Terms(alpha=0.1), recipe="", fingerprint="f", suspect="s", tests=2)
    assert (shared.decision, shared.p_value, shared.alpha) == ("inconclusive", 2 / 20, 0.05)
    assert any("alone it would be derived at alpha 0.1" in each for each in shared.caveats)


def test_strangers_who_name_the_victim_convict_nobody():
    named = {f"stranger {number}": 19 if number < 4 else number - 4 for number in range(10)}
    told = held(Terms(strangers=named))
    assert told.decision == "inconclusive"
    assert any("4 of 10 known strangers name the victim too" in each for each in told.caveats)
    assert told.lineup["strangers"] == {"asked": 10, "named_the_victim": 4}
    elsewhere = held(Terms(strangers={name: min(place, 18) for name, place in named.items()}))
    assert elsewhere.decision == "derived"
    assert elsewhere.lineup["strangers"] == {"asked": 10, "named_the_victim": 0}


def test_a_copy_that_would_have_been_seen_is_needed_to_call_a_suspect_unrelated():
    assert held(Terms(), 3).decision == "inconclusive"
    assert held(Terms(copies={"tune": (20, 20)}), 3).decision == "unrelated"
    assert held(Terms(copies={"tune": (10, 20)}), 3).decision == "inconclusive"
    assert held(Terms(copies={"tune": (10, 20), "prune": (20, 20)}), 3).decision == "unrelated"


def test_who_leads_and_by_how_much_is_in_the_document():
    told = held(Terms(), 18)
    assert told.similarity == -1.0
    assert (told.lineup["candidates"], told.lineup["rank"], told.lineup["leader"]) == (20, 2, 19)
    assert held(Terms(), 19).similarity == 1.0
    tied = Showing("mixture", np.array([1.0, 1.0, 0.0]), 1, 1, 1, False)
    assert tied.leader is None


def test_a_sealed_lineup_tells_nothing_of_the_victim():
    named = {f"stranger {number}": number for number in range(10)}
    told = held(Terms(strangers=named, figures={"loss": (0.2,) * 19 + (0.1,)}), None)
    assert (told.decision, told.p_value, told.similarity) == ("inconclusive", 1.0, 0.0)
    assert (told.lineup["place"], told.lineup["rank"], told.lineup["outermost"]) == (None, None, {})
    assert told.lineup["strangers"] == {"asked": 10, "named_the_victim": None}
    assert not any("0 of 10" in each for each in told.caveats)
    assert any("sealed too" in each for each in told.caveats)
    assert not any("sealed too" in each for each in held(Terms(), None).caveats)


def test_what_a_page_reads_of_a_lineup_is_in_its_document():
    """By the schema of pages, which refuses what lacks a part, and with what was given."""
    reasons = {"loss": "measured twice"}
    terms = Terms(figures={"loss": (0.1,) * 20}, reasons=reasons, hypothesis="the last stage", labels="agreement")
    showing = Showing("mixture", np.arange(20) / 3, 2, 20, 30, True, (np.arange(20) / 7, np.arange(20) / 3), 16)
    told = lineup_verdict(showing, 19, terms, recipe="train", fingerprint="f", suspect="s", turned=1)
    read = lineup_of(json.loads(json.dumps(told.lineup)))
    assert read is not None
    assert read.terms is not None
    assert (read.recipe, read.figures, read.terms.reasons) == ("train", {"loss": [0.1] * 20}, reasons)
    assert (read.terms.labels, read.terms.hypothesis, told.lineup["turned"]) == ("agreement", "the last stage", 1)
    assert read.totals[1] == 0.333333, "to a millionth"
    assert [(point.asked, point.totals[1]) for point in read.race] == [(1, 0.1429), (2, 0.3333)]
    of_population = Trial(None, size=1, alpha=0.05)
    of_population.update([1.0])
    assert set(told.null) == set(of_population.verdict(scheme="", fingerprint="", suspect="").null)


def test_sixty_points_of_a_long_race_are_kept_from_its_first_to_its_last():
    path = tuple(np.full(20, float(number)) for number in range(1, 1001))
    showing = Showing("mixture", path[-1], 1000, 1000, 1000, False, path, 1000)
    race = lineup_verdict(showing, 19, Terms(), recipe="", fingerprint="", suspect="").lineup["race"]
    asked = [point["asked"] for point in race]
    assert (len(race), asked[0], asked[-1]) == (60, 1, 1000)
    assert {after - before for before, after in pairwise(asked)} <= {16, 17, 18}
    assert all(point["totals"] == [float(point["asked"])] * 20 for point in race)
    assert held(Terms()).lineup["race"] == []


@pytest.mark.parametrize(("seeds", "says"), [("small", "small or common"), ("unknown", "nobody said which seed")])
def test_a_seed_that_a_stranger_may_share_takes_the_word_exact_away(seeds, says):
    told = held(Terms(seeds=seeds))
    assert not told.lineup["exact"]
    assert any(says in each for each in told.caveats)


def test_the_scheme_of_a_lineup_is_its_statistic_or_what_candidates_have_fingerprints_of():
    assert held(Terms()).scheme == "lineup(mixture)"
    assert held(Terms(by="random()")).scheme == "lineup(by=random())"


def test_how_often_chance_sets_a_victim_apart_is_told():
    """The first or the last of 20 by a figure: one lineup in ten."""
    told = held(Terms(figures={"loss": (0.2,) * 19 + (0.1,)}))
    assert any("each figure stands out in 10% of lineups" in each for each in told.caveats)


def test_how_many_known_copies_would_do_is_told():
    assert any(f"give {copies_needed(1)} known copies" in each for each in held(Terms(), 3).caveats)
    two = held(Terms(copies={"tune": (1, 2), "prune": (2, 2)}), 3)
    assert any(f"give {copies_needed(2)} known copies" in each for each in two.caveats)


def test_one_lineup_is_one_lineup():
    (said,) = [each for each in held(Terms(turned=1)).caveats if "another role" in each]
    assert "in 1 other lineup:" in said


def test_classes_that_were_read_in_the_best_order_are_told():
    def matched(showing):
        told = lineup_verdict(showing, 19, Terms(), recipe="", fingerprint="", suspect="")
        return told.lineup["matched"], any("order in which the two agree most" in each for each in told.caveats)

    assert matched(Showing("mixture", np.arange(20.0), 10, 20, 30, False)) == (False, False)
    assert matched(Showing("mixture", np.arange(20.0), 10, 20, 30, False, matched=True)) == (True, True)
