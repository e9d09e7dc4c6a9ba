"""A paper's own table, its page and the standings, where a result also holds lineups."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console
from synthetic_results import make_result

from whorl.bench.standings import standings
from whorl.bench.summary import summarise
from whorl.cli.suite_table import suite_table
from whorl.errors import UsageError
from whorl.report.figures import figure_bench
from whorl.report.pages import bench_page
from whorl.report.study import Study
from whorl.report.tables import paper_table


@pytest.fixture(scope="module")
def result():
    """Two schemes, and the second's verdicts once more as a lineup's, whose similarities are leads."""
    made = make_result(victims=3)
    columns = ["random", "akh", "lineup"]
    cells = [cell for cell in made.cells if cell.scheme in columns or cell.scheme.startswith("ipguard")]
    cells += [
        cell.model_copy(update={"scheme": "lineup", "similarity": 40 * (cell.similarity - 0.5)})
        for cell in made.cells
        if cell.scheme == "akh"
    ]
    extractions = [each for each in made.extractions if each.scheme in columns]
    extractions += [
        each.model_copy(update={"scheme": "lineup", "expression": "lineup", "null": [], "known": {}})
        for each in extractions
        if each.scheme == "akh"
    ]
    return made.model_copy(
        update={"columns": columns, "cells": cells, "extractions": extractions, "chosen": "", "sweep": {}}
    )


def derived(result, group):
    """By cells: called derived, of all of one row or group."""
    cells = [cell for cell in result.cells if (cell.scheme, cell.group) == ("lineup", group)]
    return f"{sum(cell.decision == 'derived' for cell in cells)}/{len(cells)}"


def test_a_lineup_shows_how_many_it_calls_derived(result):
    groups = {label: derived(result, label) for label in [*result.rows, *result.groups]}
    assert len(set(groups.values())) > 4, "or equal entries would show nothing"
    written = {line.label: line.entries for section in paper_table(Study.of(result)) for line in section.lines}
    assert {label: written[label][2].value for label in groups} == groups
    assert [entry.value == "–" for entry in written["ARUC"]] == [False, False, True]
    assert [entry.value for entry in written["Flagged copies"][1:]] == [written["Flagged copies"][1].value] * 2
    missed = {label for label in result.rows if written[label][2].state == "missed"}
    assert missed == {label for label in result.rows if written[label][1].state == "missed"} != set()


def test_the_terminal_shows_it_beside_the_schemes(result):
    console = Console(width=240, record=True, file=io.StringIO())
    for part in suite_table(result, summarise(result)):
        console.print(part)
    text = console.export_text()
    (row,) = (line for line in text.splitlines() if "independent: VGG" in line)
    assert derived(result, "VGG") in row.split()
    assert "Of a lineup: models called derived of all." in " ".join(text.split())


def test_page_figure_and_document_bear_a_column_without_matches(result):
    page = " ".join(bench_page(result).split())
    assert f"{derived(result, 'VGG')}</span>" in page
    assert "of a lineup the models called derived, of all" in page
    assert "<h3>akh</h3>" in page
    assert "<h3>lineup</h3>" not in page
    alone = result.model_copy(update={"columns": ["lineup"]})
    assert 'id="matches"' not in bench_page(alone)
    assert 'href="#matches"' not in bench_page(alone)
    with pytest.raises(UsageError, match="'lineup' is a lineup, which has leads and no matches"):
        figure_bench(result, "lineup")
    (column,) = json.loads(json.dumps(dataclasses.asdict(summarise(alone))))["columns"]
    assert (column["lined_up"], column["aruc"]) == (True, None)


def test_the_standings_rank_it_too(result):
    rows = {row.name: row for row in standings(result)}
    assert rows.keys() == {"random", "akh", "lineup"}
    assert rows["lineup"].power == rows["akh"].power
    assert (rows["lineup"].victim_access, rows["lineup"].aruc) == ("training", None)
