"""``whorl bench`` and ``whorl report`` on a suite that a plug-in brings."""

from __future__ import annotations

import json

import pytest

from whorl.suites.suite import SUITES

PLUGIN = """
from whorl.suites.suite import Derived, Suite
from whorl.zoo.recipe import parse_recipe


def models(first, count):
    texts = [f"train(mlp(width=16), digits(size=8), epochs=4, seed={first + number})" for number in range(count)]
    return tuple(map(parse_recipe, texts))


def tiny():
    return Suite(
        name="plugged/tiny",
        about="digits at 8 px",
        data="digits(size=8)",
        victims=models(0, 2),
        derived=(Derived("int8", "quantise(int8)"), Derived("FTLL", "fine_tune(last, epochs=1)")),
        independents={"same": models(10, 2)},
        null=models(20, 4),
        schemes={"random": "random", "fgsm": "fgsm"},
        budget=20,
        alpha=0.25,
    )
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """An installed distribution whose entry point names a suite."""
    folder = tmp_path / "site"
    metadata = folder / "plugged-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[whorl.suites]\nplugged/tiny = plugged_suite:tiny\n")
    (folder / "plugged_suite.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(folder)
    SUITES.__dict__.pop("_targets", None)
    yield
    SUITES.__dict__.pop("_targets", None)


def test_a_suite_is_run_shown_exported_and_reported(whorl, plugin, tmp_path):
    output = tmp_path / "out" / "tiny.json"
    arguments = ("bench", "run", "plugged/tiny", "-j", "1", "-o", output)
    ran = whorl(*arguments)
    assert ran.exit_code == 0
    assert "plugged/tiny: digits at 8 px; 2 victims" in ran.stdout
    rows = [line.split("  ")[0] for line in ran.stdout.splitlines()]
    assert {"int8", "FTLL", "independent: same", "extraction seconds", "ARUC", "copies flagged"} <= set(rows)
    assert f"whorl report {output}" in ran.stderr
    again = whorl(*arguments, "--quiet")
    assert (again.stdout, again.stderr) == (ran.stdout, "")
    assert whorl("bench", "show", output).stdout == ran.stdout
    summary = json.loads(whorl("bench", "show", output, "--json").stdout)
    assert [column["name"] for column in summary["columns"]] == ["random", "fgsm"]
    page = tmp_path / "page" / "report.html"
    assert whorl("report", output, "-o", page).stdout == f"{page}\n"
    assert "FTLL" in page.read_text()
    for name in ("cells.json", "cells.parquet", "cells.csv"):
        assert whorl("bench", "export", output, "-o", tmp_path / name).stdout == f"{tmp_path / name}\n"
        assert (tmp_path / name).stat().st_size
    refused = whorl("bench", "export", output, "-o", tmp_path / "cells.txt")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert ".csv, .parquet, .json, not .txt" in refused.stderr


def test_a_limit_and_a_choice_of_schemes_make_it_smaller(whorl, plugin, tmp_path):
    result = whorl("bench", "run", "plugged/tiny", "--limit", "1", "--schemes", "r*", "-j", "1", "--json")
    assert result.stderr == ""
    (column,) = json.loads(result.stdout)["columns"]
    assert column["name"] == "random"
    assert list(column["rows"]) == ["int8"]
    assert column["accused"]["count"] == 1


def test_suites_are_listed_with_those_of_plugins(whorl, plugin):
    suites = {suite["name"]: suite["about"] for suite in json.loads(whorl("bench", "list", "--json").stdout)}
    assert suites["plugged/tiny"] == "digits at 8 px"
    assert "ipguard/digits" in suites
    assert "plugged/tiny  digits at 8 px" in whorl("bench", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["run", "ipguard/digit"], 2, "Did you mean ipguard/digits"),
        (["run", "ipguard/digits", "--limit", "-1"], 2, "a limit is at least 1"),
        (["run", "ipguard/digits", "--schemes", "none"], 2, "no scheme of ipguard/digits matches 'none'"),
        (["run", "ipguard/digits", "--device", "abacus"], 2, "no such device"),
        (["show", "missing.json"], 2, "missing.json"),
        (["show", __file__], 7, "test_bench_verb.py"),
    ],
)
def test_a_mistake_ends_in_one_line(whorl, arguments, code, told):
    result = whorl("bench", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    (line,) = result.stderr.splitlines()
    assert told in line


def test_rows_budgets_and_the_command_that_made_a_result(whorl, plugin, tmp_path):
    output = tmp_path / "less.json"
    ran = whorl("bench", "run", "plugged/tiny", "-j", "1", "--removals", "quant*", "--budgets", "5,10", "-o", output)
    assert ran.exit_code == 0, ran.output
    document = json.loads(output.read_text())
    assert document["rows"] == ["int8"]
    assert document["columns"] == ["random @5", "random @10", "fgsm @5", "fgsm @10"]
    assert document["command"] == "whorl bench run plugged/tiny --removals 'quant*' --budgets 5,10"
    assert len(document["date"]) == 10
    assert [model["role"] for model in document["models"]].count("victim") == 2
    wrong = whorl("bench", "run", "plugged/tiny", "--budgets", "many")
    assert wrong.exit_code == 2
    assert "numbers of queries" in wrong.stderr


def test_a_grid_is_run_and_shown(whorl, plugin, tmp_path):
    output, cells = tmp_path / "grid.json", tmp_path / "cells.parquet"
    options = ("--schemes", "random+*", "--budgets", "10,20", "--seeds", "1", "-j", "1")
    ran = whorl("bench", "grid", "plugged/tiny", *options, "-o", output, "--cells", cells)
    assert ran.exit_code == 0, ran.output
    assert "random+labels+hamming" in ran.stdout
    assert cells.stat().st_size > 0
    shown = whorl("bench", "show", output)
    assert shown.exit_code == 0
    assert "random+labels+hamming" in shown.stdout
    document = json.loads(whorl("bench", "show", output, "--json").stdout)
    assert document["kind"] == "grid"
    assert document["command"].startswith("whorl bench grid plugged/tiny --schemes 'random+*'")


def test_the_quality_of_a_suite_is_shown(whorl, plugin, tmp_path):
    output = tmp_path / "quality.json"
    ran = whorl("bench", "quality", "plugged/tiny", "-j", "1", "-o", output)
    assert ran.exit_code == 0, ran.output
    assert "overlap" in ran.stdout
    document = json.loads(output.read_text())
    assert {group["group"] for group in document["groups"]} == {"int8", "FTLL", "same"}
