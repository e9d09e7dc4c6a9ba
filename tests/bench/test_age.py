"""Results that older code made are marked; `fresh` computes everything again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_suite import least_suite
from typer.testing import CliRunner

from whorl.bench.age import note, older_columns
from whorl.bench.result import read_result, write_result
from whorl.bench.runner import run
from whorl.cli.app import app
from whorl.report.leaderboard import site
from whorl.storage import read_json, write_json
from whorl.suites.suite import SUITES
from whorl.zoo.cache import Zoo

GRID = Path(__file__).parents[2] / "benchmarks" / "results" / "grid-modelreuse-tiny.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def result(folder):
    return run(least_suite(), folder=folder, workers=1)


@pytest.fixture
def older(result):
    """The same, as if an older revision of one scheme had made it."""
    return result.model_copy(update={"revisions": {**(result.revisions or {}), "whorl.queries.adversarial": "0"}})


def test_a_run_is_of_this_code_and_one_that_does_not_say_is_older(result, tmp_path):
    assert older_columns(result) == {}
    write_result(result, tmp_path / "new.json")
    assert read_result(tmp_path / "new.json") == result
    unknown = result.model_copy(update={"revisions": None})
    assert older_columns(unknown) == dict.fromkeys(("random", "fgsm"), "revision unknown")


def test_only_the_columns_that_changed_are_older(older):
    found = older_columns(older)
    assert found.keys() == {"fgsm"}
    assert found["fgsm"].startswith("whorl.queries.adversarial: 0, now ")
    assert note(found, "whorl bench run tiny").startswith(
        "made by older code: fgsm (whorl.queries.adversarial: 0, now "
    )
    assert note({}, "whorl bench run tiny") == ""


def test_models_and_the_null_count_for_every_column(result, monkeypatch):
    monkeypatch.setitem(SUITES._targets, "tiny", "tiny_suite:least_suite")
    for module in ("whorl.nets.plain", "whorl.removals.quantise", "whorl.bench.work", "whorl.nets.training"):
        changed = result.model_copy(update={"revisions": {**(result.revisions or {}), module: "0"}})
        assert older_columns(changed).keys() == {"random", "fgsm"}, module


def test_a_scheme_that_is_not_installed_cannot_be_compared(result):
    made = [each.model_copy(update={"expression": "theirs(a=1)"}) for each in result.extractions]
    (why,) = set(older_columns(result.model_copy(update={"extractions": made})).values())
    assert why.startswith("revision unknown: its package is not installed here")


def test_tables_and_the_board_say_so(result, older, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    for name, each in (("new", result), ("old", older)):
        write_result(each, tmp_path / f"{name}.json")
        shown = CliRunner().invoke(app, ["bench", "show", str(tmp_path / f"{name}.json")]).stdout
        document = CliRunner().invoke(app, ["bench", "show", str(tmp_path / f"{name}.json"), "--json"]).stdout
        page = site({f"{name}.json": each})["suite-tiny.html"]
        if each is older:
            assert "made by older code: fgsm (whorl.queries.adversarial: 0, now" in shown
            assert "Run again: whorl bench run tiny" in shown
            assert json.loads(document)["older"].keys() == {"fgsm"}
            assert page.count(">older code</span>") == 1
        else:
            assert "older" not in shown
            assert json.loads(document)["older"] == {}
            assert "older code" not in page


def test_fresh_forgets_models_fingerprints_and_cells(result, folder):
    zoo = Zoo(folder)
    before = {recipe: zoo.card_path(recipe).stat().st_mtime_ns for recipe in least_suite().recipes()}
    again = run(least_suite(), folder=folder, workers=1)
    assert again.cells == result.cells
    fresh = run(least_suite(), folder=folder, workers=1, fresh=True)
    assert [cell.similarity for cell in fresh.cells] == [cell.similarity for cell in result.cells]
    assert [cell.seconds for cell in fresh.cells] != [cell.seconds for cell in result.cells]
    assert [each.seconds for each in fresh.extractions] != [each.seconds for each in result.extractions]
    assert all(zoo.card_path(recipe).stat().st_mtime_ns > stamp for recipe, stamp in before.items())


def test_a_card_says_by_which_code_its_model_was_made(result, folder):
    zoo, recipe = Zoo(folder), least_suite().victims[0]
    card = zoo.card(recipe)
    assert card.older == ""
    assert card.model_copy(update={"revisions": {"whorl.nets.plain": "0"}}).older.startswith(
        "whorl.nets.plain: 0, now "
    )
    assert card.model_copy(update={"revisions": None}).older == "revision unknown"


def test_a_combination_that_is_not_known_here_is_told_so(tmp_path):
    committed = read_json(GRID)
    names = committed["figures"]["fields"]
    foreign = {row[names.index("combination")] for row in committed["figures"]["rows"]} - {"random+labels+hamming"}
    rows = [
        ["theirs+labels+hamming" if row[0] in foreign else row[0], *row[1:]]
        for row in committed["figures"]["rows"][:40]
    ]
    write_json(tmp_path / "grid.json", committed | {"figures": {"fields": names, "rows": rows}})
    shown = CliRunner().invoke(app, ["bench", "show", str(tmp_path / "grid.json")])
    assert shown.exit_code == 0
    assert "theirs+labels+hamming" in shown.stdout
    assert "is not installed here" in " ".join(shown.stdout.split())


@pytest.mark.parametrize("verb", [["report"], ["bench", "diff"], ["bench", "site"], ["bench", "export"]])
def test_a_grid_where_cells_are_needed_is_named(verb, tmp_path):
    files = [str(GRID)] * (2 if verb[-1] == "diff" else 1)
    output = ["-o", str(tmp_path / "out.csv")] if verb[-1] == "export" else ["-o", str(tmp_path / "out")]
    said = CliRunner().invoke(app, [*verb, *files, *([] if verb[-1] == "diff" else output)])
    assert said.exit_code == 7
    assert "is a result of whorl bench grid" in " ".join(said.stderr.split())
    assert "whorl bench show" in " ".join(said.stderr.split())
