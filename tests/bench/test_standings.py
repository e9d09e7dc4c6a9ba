"""The table of the field from cells whose figures are known by hand."""

from __future__ import annotations

import dataclasses
from io import StringIO

import pytest
from rich.console import Console

from whorl.bench.estimates import Share
from whorl.bench.result import Cell, Extraction, Model, Refusal, Result, describe_machine
from whorl.bench.standings import standings
from whorl.cli.standings import field_tables
from whorl.errors import UsageError
from whorl.metrics import Interval, over_victims, rounded
from whorl.report.pages import bench_page

# victim 0: every copy above both strangers; victim 1: one of the two pruned copies below one stranger.
COPIES = {
    0: {"fine-tune": [0.9, 0.8], "prune weights": [0.7, 0.6]},
    1: {"fine-tune": [0.9, 0.8], "prune weights": [0.7, 0.3]},
}
STRANGERS = {0: [0.1, 0.2], 1: [0.4, 0.2]}


def cell(scheme, victim, suspect, similarity, *, family="", kind="derived", decision="unrelated", damaged=False):
    group = family or "same"
    fields = {"accuracy": 0.9, "p_value": 0.5, "spent": 50, "needed": 7, "seconds": 0.25}
    return Cell(
        victim=victim,
        scheme=scheme,
        suspect=suspect,
        group=group,
        kind=kind,
        family=family,
        similarity=similarity,
        damaged=damaged,
        decision=decision,
        **fields,
    )


def refusal(scheme, victim, suspect, kind, family=""):
    return Refusal(
        victim=victim,
        scheme=scheme,
        suspect=suspect,
        group=family or "forest",
        kind=kind,
        family=family,
        damaged=False,
        reason="grants LABELS",
    )


def cells_of(scheme, shift=0.0):
    for victim, families in COPIES.items():
        for family, values in families.items():
            for number, value in enumerate(values):
                flagged = "derived" if value > 0.5 else "inconclusive"
                yield cell(scheme, victim, f"{family} {number}", value + shift, family=family, decision=flagged)
        yield cell(scheme, victim, "ruined", 0.0 + shift, family="prune weights", damaged=True)
        for number, value in enumerate(STRANGERS[victim]):
            yield cell(scheme, victim, f"same {number}", value + shift, kind="independent")


def extraction(victim, scheme, expression, **fields):
    known = {"seconds": 2.0 + victim, "notes": {}, "null": [], "known": {}, "inputs": 150}
    return Extraction(victim=victim, scheme=scheme, expression=expression, **(known | fields))


@pytest.fixture
def result():
    return Result(
        suite="field/tiny",
        about="made up",
        limit=0,
        alpha=0.05,
        budget=50,
        columns=["random", "wide"],
        chosen="",
        sweep={},
        rows=[],
        groups=["same"],
        victims=["a", "b"],
        victim_accuracy=[0.9, 0.9],
        null_size=19,
        paper={},
        machine=describe_machine("cpu"),
        extractions=[
            *(extraction(victim, "random", "random", peak_mib=10.0 * victim) for victim in (0, 1)),
            *(extraction(victim, "wide", "ipguard") for victim in (0, 1)),
        ],
        cells=[*cells_of("random"), *cells_of("wide", shift=3.0)],
        layout="field",
        refusals=[refusal("wide", 1, "forest", "independent")],
        shadow_families=["fine-tune"],
    )


def written(result):
    """The tables as a pipe has them."""
    console = Console(width=1000, file=StringIO())
    for part in field_tables(result, standings(result)):
        console.print(part, highlight=False)
    return console.file.getvalue()


def named(result):
    return {row.name: row for row in standings(result)}


def test_the_best_comes_first_and_none_for_having_refused(result):
    """Both rank the suspects alike; wide was refused one independent model, and so stands below."""
    assert [row.name for row in standings(result)] == ["random", "wide"]
    better = [
        cell.model_copy(update={"similarity": 3.9}) if cell.scheme == "wide" and cell.kind == "derived" else cell
        for cell in result.cells
    ]
    asked = result.model_copy(update={"refusals": [], "cells": better})
    assert [row.name for row in standings(asked)] == ["wide", "random"]


def decided(result, scheme, copies=0, strangers=0):
    """The result with so many copies, and so many independent models, of each victim called derived by one scheme."""
    left = {
        (victim, kind): count for victim in (0, 1) for kind, count in (("derived", copies), ("independent", strangers))
    }
    cells = []
    for each in result.cells:
        if each.scheme == scheme and not each.damaged:
            hit = left[each.victim, each.kind] > 0
            left[each.victim, each.kind] -= hit
            each = each.model_copy(update={"decision": "derived" if hit else "inconclusive"})
        cells.append(each)
    return result.model_copy(update={"cells": cells})


def test_power_ranks_and_auc_decides_between_equals(result):
    better = decided(decided(result, "wide", copies=3), "random", copies=2)
    assert [(row.name, row.power.hits) for row in standings(better)] == [("wide", 6), ("random", 4)]
    assert named(better)["wide"].at_worst(named(better)["wide"].auc) < named(better)["random"].auc.value
    assert [row.name for row in standings(decided(better, "wide", copies=2))] == ["random", "wide"]


def test_power_has_an_interval_over_victims(result):
    row = named(result)["random"]
    assert row.power.estimate == rounded(over_victims([1, 3 / 4], [4, 4]))
    assert (row.leading, row.leading.told) == (row.power.estimate, "range")


def test_a_scheme_that_accuses_clearly_more_than_alpha_stands_below_and_is_never_best(result):
    """It calls every copy derived, and every independent model too."""
    accusing = decided(result, "wide", copies=4, strangers=2)
    first, last = standings(accusing)
    assert (last.name, last.exceeds, first.exceeds) == ("wide", True, False)
    assert last.power.hits == 8 > first.power.hits
    assert last.accused.interval.low > accusing.alpha
    assert not last.tied(first)
    assert [line.split()[:1] for line in written(accusing).splitlines() if "4/4 !" in line] == [["wide"], ["wide"]]
    alone = standings(accusing.model_copy(update={"columns": ["wide"]}))
    assert not alone[0].tied(alone[0])


def test_without_a_null_for_alpha_auc_ranks_and_the_table_says_so(result):
    """18 independent models cannot give a p-value of .05; what a file calls derived there is no verdict."""
    small = decided(result.model_copy(update={"null_size": 18}), "wide", copies=4, strangers=2)
    rows = standings(small)
    assert [row.name for row in rows] == ["random", "wide"]
    assert {(row.power, row.exceeds) for row in rows} == {(None, False)}
    assert all(row.leading == row.auc for row in rows)
    assert "Ranked by AUC: a null of 18 is too small for verdicts at alpha 0.05." in written(small)
    assert "Ranked by power" not in written(small)


def test_a_lineup_holds_verdicts_whatever_the_null(result):
    lined_up = [extraction(victim, "wide", "lineup(scores=mixture)") for victim in (0, 1)]
    changed = decided(result, "wide", copies=1).model_copy(
        update={"null_size": 0, "extractions": [*result.extractions[:2], *lined_up]}
    )
    first, other = standings(changed)
    assert (first.name, first.power.hits, first.victim_access) == ("wide", 2, "training")
    assert (other.power, other.tied(first)) == (None, False)
    text = written(changed)
    assert "AUC decides between equal powers, and alone where the null is too small" in text
    assert "a lineup needs twins of the victim" in text


def test_ties_go_by_the_intervals_of_power(result):
    """AUC is equal for all; of two victims' powers alone the intervals lie apart or meet."""
    best, near, far = (
        dataclasses.replace(named(result)["random"], power=Share(0, 1, Interval(*ends), 2))
        for ends in ((0.6, 0.9), (0.3, 0.6), (0.3, 0.59))
    )
    assert (best.tied(best), near.tied(best), far.tied(best)) == (True, True, False)
    none = dataclasses.replace(best, power=None)
    assert (none.tied(best), none.tied(none)) == (False, True)


def test_figures_are_means_over_victims(result):
    row = named(result)["random"]
    assert row.auc.value == pytest.approx((1 + 7 / 8) / 2)
    assert row.families["fine-tune"].value == 1
    assert row.families["prune weights"].value == pytest.approx((1 + 3 / 4) / 2)
    assert row.tpr.value == pytest.approx((1 + 3 / 4) / 2)
    assert row.auc.clusters == 2
    assert row.auc == rounded(over_victims([1, 7 / 8], [2, 2]))
    assert (row.auc.told, row.auc.around) == ("range", Interval(7 / 8, 1))


def test_damaged_copies_are_in_no_figure(result):
    row = named(result)["random"]
    assert (row.power.hits, row.power.count, row.copies) == (7, 8, 8)
    assert (row.accused.hits, row.accused.count) == (0, 4)


def test_similarities_beyond_one_have_no_aruc_and_the_same_ranks(result):
    unit, wide = (named(result)[name] for name in ("random", "wide"))
    assert unit.aruc is not None
    assert wide.aruc is None
    assert (wide.tpr, wide.auc) == (unit.tpr, unit.auc)  # the independent model that it refused is in no figure
    assert (wide.refused, wide.refused_copies, wide.refused_strangers) == (1, 0, 1)
    assert wide.answered == pytest.approx((1 + 2 / 3) / 2)
    assert wide.at_worst(wide.auc) == pytest.approx(wide.auc.value * wide.answered)


def test_a_copy_that_cannot_be_asked_is_in_no_area_and_never_recognised(result):
    refused = [*result.refusals, *(refusal("random", victim, "other net", "derived", "extract") for victim in (0, 1))]
    row, before = named(result.model_copy(update={"refusals": refused}))["random"], named(result)["random"]
    assert "extract" not in row.families
    assert row.families_refused == ("extract",)
    assert row.auc == before.auc
    assert row.answered == pytest.approx(4 / 5)
    assert (row.refused, row.refused_copies) == (2, 2)
    assert (row.power.hits, row.power.count, row.copies) == (7, 10, 8)


def test_a_scheme_that_could_be_asked_about_no_copy_has_no_figures(result):
    strangers = [cell for cell in result.cells if cell.scheme == "random" or cell.kind == "independent"]
    assert named(result.model_copy(update={"cells": strangers})).keys() == {"random"}
    with pytest.raises(UsageError, match="no scheme of field/tiny could be asked about both"):
        standings(result.model_copy(update={"cells": strangers, "columns": ["wide"]}))


def test_accusations_are_of_verdicts_given_and_by_group(result):
    def judged(cell):
        if cell.scheme == "wide" and cell.kind == "independent":
            last = cell.suspect.endswith("1")
            return cell.model_copy(
                update={"group": "other" if last else "same", "decision": "derived" if last else "inconclusive"}
            )
        return cell

    row = named(result.model_copy(update={"cells": [judged(cell) for cell in result.cells]}))["wide"]
    assert (row.accused.hits, row.accused.count, row.undecided) == (2, 4, 2)
    assert {group: (of.hits, of.count) for group, of in row.accused_by_group.items()} == {
        "same": (0, 2),
        "other": (2, 2),
        "forest": (0, 0),  # refused
    }


def test_strangers_of_the_victim_s_own_architecture_are_held_against_copies_apart(result):
    """Of victim 1 the stranger at .4 has another net; the one at .2 lies below every copy."""
    nets = {"same 0": "vgg", "same 1": "resnet8"}
    models = [
        Model(
            label=label, role="same", family="", recipe=f"train({net}, digits(size=8), seed=9)", accuracy=0.9,
            agreement=None, damaged=False, queries=0, seconds=1.0,
        )
        for label, net in nets.items()
    ]  # fmt: skip
    victims = [f"train(resnet8, digits(size=8), seed={seed})" for seed in (1, 2)]
    row = named(result.model_copy(update={"models": models, "victims": victims}))["random"]
    assert row.auc.value == pytest.approx((1 + 7 / 8) / 2)
    assert row.own_auc.value == row.own_tpr.value == 1
    assert named(result)["random"].own_auc is None


def test_costs_and_access(result):
    first, wide = (named(result)[name] for name in ("random", "wide"))
    assert (first.extraction_seconds, first.verification_seconds, first.inputs, first.needed) == (2.5, 0.25, 150, 7)
    assert (first.peak_mib, wide.peak_mib) == (10.0, None)
    assert (first.victim_access, first.suspect_access) == ("labels", "labels")
    assert (wide.victim_access, wide.refused, first.refused) == ("gradients", 1, 0)
    assert wide.seen == ()  # ipguard learns from no pool


def test_a_result_is_read_without_the_plug_in_that_made_it(result):
    made = [extraction(victim, "wide", "somebody-elses(depth=3)") for victim in (0, 1)]
    changed = result.model_copy(update={"extractions": [*result.extractions[:2], *made]})
    row = named(changed)["wide"]
    assert (row.victim_access, row.suspect_access, row.expression) == ("", "", "somebody-elses(depth=3)")
    assert row.auc == named(result)["wide"].auc


def test_one_victim_has_an_interval_of_its_own(result):
    alone = result.model_copy(
        update={
            "victims": ["a"],
            "cells": [cell for cell in result.cells if cell.victim == 0],
            "extractions": [each for each in result.extractions if each.victim == 0],
        }
    )
    row = named(alone)["random"]
    assert row.auc.clusters == 1
    assert row.auc.value == 1
    assert 0 < row.auc.interval.low < 1


def test_the_page_shows_every_scheme_and_its_costs(result):
    page = bench_page(result)
    assert page.startswith("<!doctype html>")
    for text in ("field/tiny", "random", "wide", "0/4", "150", "whorl bench run field/tiny", "fine-tune"):
        assert text in page
    assert page.count("<svg") == 2
