"""The table of a small made-up result, computed by hand."""

from __future__ import annotations

import pytest

from whorl.bench.result import Cell, Extraction, Result, describe_machine
from whorl.bench.summary import summarise

# victim -> suspect -> (similarity, damaged, decision, needed)
COPIES = [
    {"FT": (1.0, False, "derived", 10), "WP": (0.8, False, "derived", 30), "FP": (0.1, True, "unrelated", 100)},
    {"FT": (0.9, False, "derived", 20), "WP": (0.4, False, "inconclusive", 100), "FP": (0.7, False, "unrelated", 100)},
]
BEYOND = [0.2, 0.6]
STRANGERS = [{"a": 0.0, "b": 0.2}, {"a": 0.1, "b": 0.5}]


def cell(victim, scheme, suspect, group, kind, found):
    similarity, damaged, decision, needed = found
    return Cell(
        victim=victim, scheme=scheme, suspect=suspect, group=group, kind=kind, similarity=similarity, accuracy=0.9,
        damaged=damaged, decision=decision, p_value=0.1, spent=100, needed=needed,
    )  # fmt: skip


def cells(scheme, scale=1.0):
    found = []
    for victim in (0, 1):
        for label, (similarity, *rest) in COPIES[victim].items():
            found.append(cell(victim, scheme, label, label, "derived", (similarity * scale, *rest)))
        found.append(cell(victim, scheme, "EX", "EX", "beyond", (BEYOND[victim], False, "unrelated", 100)))
        for name, similarity in STRANGERS[victim].items():
            decision = "derived" if similarity == 0.5 else "unrelated"
            found.append(cell(victim, scheme, f"VGG {name}", "VGG", "independent", (similarity, False, decision, 100)))
    return found


def extraction(victim, scheme, known, null=(0.0, 0.1)):
    return Extraction(
        victim=victim, scheme=scheme, expression=scheme, seconds=1.0 + victim, notes={"converged": 0.5 + victim / 4},
        null=list(null), known={"fine-tune": known},
    )  # fmt: skip


def result(**changes):
    fields = {
        "suite": "by hand",
        "about": "",
        "limit": 0,
        "alpha": 0.05,
        "budget": 100,
        "columns": ["one"],
        "chosen": "",
        "sweep": {},
        "rows": ["FT", "WP", "FP", "EX"],
        "groups": ["VGG"],
        "victims": ["v0", "v1"],
        "victim_accuracy": [0.9, 0.9],
        "null_size": 2,
        "paper": {},
        "machine": describe_machine("cpu"),
        "extractions": [extraction(victim, "one", [0.9]) for victim in (0, 1)],
        "cells": cells("one"),
    }
    return Result(**(fields | changes))


@pytest.fixture
def column():
    (found,) = summarise(result()).columns
    return found


def test_rows_and_groups(column):
    found = {row: (of.mean, of.low, of.high, of.count, of.damaged) for row, of in column.rows.items()}
    assert found == {
        "FT": (pytest.approx(0.95), 0.9, 1.0, 2, 0),
        "WP": (pytest.approx(0.6), 0.4, 0.8, 2, 0),
        "FP": (pytest.approx(0.4), 0.1, 0.7, 2, 1),
        "EX": (pytest.approx(0.4), 0.2, 0.6, 2, 0),
    }
    strangers = column.groups["VGG"]
    assert (strangers.mean, strangers.low, strangers.high, strangers.count) == (pytest.approx(0.2), 0.0, 0.5, 4)


def test_aruc_is_the_mean_over_victims(column):
    """Victim 0: positives 1, .8 (the damaged .1 is left out), negatives 0, .2.
    min(R, U) is .5 on (0, .2], 1 on (.2, .8], .5 on (.8, 1]: .1 + .6 + .1 = .8.
    Victim 1: positives .9, .4, .7, negatives .1, .5.
    min(R, U) is 0 on (0, .1], .5 on (.1, .5], 2/3 on (.5, .7], 1/3 on (.7, .9], 0 beyond: .2 + .4/3 + .2/3 = .4.
    """
    assert column.aruc.value == pytest.approx((0.8 + 0.4) / 2)


def test_auc_is_the_mean_over_victims(column):
    """Victim 0: all four pairs in order. Victim 1: of six pairs only (.4, .5) is not."""
    assert column.auc.value == pytest.approx((1 + 5 / 6) / 2)


def test_beyond_is_apart(column):
    """.2 and .6 against 0, .2, .1, .5: (2.5 + 4) of 8 pairs."""
    assert column.beyond_auc == pytest.approx(6.5 / 8)


def test_verdicts_are_counted(column):
    """Of the copies that kept their accuracy three of five are flagged, after 10, 20 and 30 queries."""
    assert (column.flagged.hits, column.flagged.count) == (3, 5)
    assert (column.accused.hits, column.accused.count) == (1, 4)
    assert column.accused.interval.low < 0.25 < column.accused.interval.high
    assert column.needed == 20


def test_costs_are_means(column):
    assert column.seconds == pytest.approx(1.5)
    assert column.converged == pytest.approx(0.625)


def test_nothing_flagged_needs_nothing():
    quiet = [each.model_copy(update={"decision": "unrelated"}) for each in cells("one")]
    (column,) = summarise(result(cells=quiet)).columns
    assert column.needed is None
    assert (column.flagged.hits, column.accused.hits) == (0, 0)


def test_without_removals_beyond_the_paper():
    plain = [each for each in cells("one") if each.kind != "beyond"]
    (column,) = summarise(result(cells=plain, rows=["FT", "WP", "FP"])).columns
    assert column.beyond_auc is None


def test_one_victim_says_nothing_about_the_next():
    alone = [each for each in cells("one") if each.victim == 0]
    (column,) = summarise(result(cells=alone, victims=["v0"], extractions=[extraction(0, "one", [0.9])])).columns
    assert column.aruc.value == pytest.approx(0.8)
    assert (column.aruc.interval.low, column.aruc.interval.high) == (0.0, 1.0)
    assert column.auc.value == 1


def test_calibration_models_alone_choose_k():
    """k = 2 is worse on the models under test and better on those of the calibration: it is taken."""
    extractions = [extraction(victim, "one", [0.9]) for victim in (0, 1)]
    extractions += [extraction(victim, "one k=1", [0.6]) for victim in (0, 1)]
    extractions += [extraction(victim, "one k=2.0", [0.9]) for victim in (0, 1)]
    table = summarise(
        result(
            chosen="one",
            sweep={"1": "one(k=1)", "2.0": "one(k=2)"},
            extractions=extractions,
            cells=[*cells("one"), *cells("one k=1"), *cells("one k=2.0", scale=0.5)],
        )
    )
    assert table.best_k == 2
    assert [point.k for point in table.sweep] == [1, 2]
    assert table.sweep[0].aruc.value == pytest.approx(0.6)
    # Known .6 against 0, .1: .5 on (0, .1], 1 on (.1, .6]. Known .9: the same up to .9.
    assert [point.calibration_aruc for point in table.sweep] == [pytest.approx(0.55), pytest.approx(0.85)]
    (column,) = table.columns
    assert column.rows["FT"].high == 0.5
    assert column.expression == "one k=2.0"
