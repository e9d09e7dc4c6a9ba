"""``whorl bench site``, ``validate``, ``diff`` and ``export`` on a result that a run leaves behind."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from whorl.bench.result import read_result, write_result
from whorl.suites.suite import SUITES, Derived, Suite
from whorl.zoo.recipe import parse_recipe

ROOT = Path(__file__).parents[2]


def small():
    """Two victims, two rows, two schemes: seconds."""

    def models(first, count):
        texts = [f"train(mlp(width=16), digits(size=8), epochs=3, seed={first + number})" for number in range(count)]
        return tuple(map(parse_recipe, texts))

    return Suite(
        name="tests/small",
        about="digits at 8 px",
        data="digits(size=8)",
        victims=models(0, 2),
        derived=(Derived("int8", "quantise(int8)"), Derived("FTLL", "fine_tune(last, epochs=1)")),
        independents={"same": models(10, 2)},
        null=models(20, 4),
        schemes={"random": "random", "fgsm": "fgsm"},
        budget=20,
        alpha=0.25,
        layout="field",
    )


@pytest.fixture(scope="module")
def suite():
    SUITES._targets["tests/small"] = f"{__name__}:small"
    yield "tests/small"
    del SUITES._targets["tests/small"]


@pytest.fixture(scope="module")
def path(suite, tmp_path_factory):
    """The result of a run by hand."""
    from whorl.bench.runner import run

    folder = tmp_path_factory.mktemp("run")
    command = f"whorl bench run {suite}"
    write_result(run(small(), folder=folder / "cache", workers=1, command=command), folder / "small.json")
    return folder / "small.json"


def moved(path, folder):
    """The same with every copy as unlike as can be."""
    result = read_result(path)
    cells = [cell.model_copy(update={"similarity": 0.0}) if cell.kind == "derived" else cell for cell in result.cells]
    write_result(result.model_copy(update={"cells": cells}), folder / "moved.json")
    return folder / "moved.json"


def test_a_sound_result_is_called_so(whorl, path):
    done = whorl("bench", "validate", path)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "sound: tests/small, 2 schemes, 16 cells\n"
    document = json.loads(whorl("bench", "validate", path, "--json").stdout)
    assert document == {"file": "small.json", "suite": "tests/small", "problems": [], "older": {}}


def test_every_problem_is_a_line_and_the_exit_code_says_so(whorl, path, tmp_path):
    broken = read_result(path).model_copy(update={"date": "", "command": "", "null_size": 5})
    write_result(broken, tmp_path / "broken.json")
    done = whorl("bench", "validate", tmp_path / "broken.json")
    lines = done.stdout.splitlines()
    assert (done.exit_code, done.stderr) == (1, "")
    assert len(lines) > 3
    assert "null_size of tests/small are 4, not 5" in lines
    as_json = whorl("bench", "validate", tmp_path / "broken.json", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["problems"] == lines
    (tmp_path / "no.json").write_text("no")
    unread = whorl("bench", "validate", tmp_path / "no.json")
    assert unread.exit_code == 1
    assert "is not a JSON document" in unread.stdout


def test_what_did_not_move_does_not_fail(whorl, path):
    done = whorl("bench", "diff", path, path, "--fail-on", "moved")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("0 of ")
    every = whorl("bench", "diff", path, path, "--all").stdout
    assert "2 victims in pairs" in every
    assert "auc, quantise" in every


def several(path, folder, times=3):
    """The same with every victim ``times`` over: of two victims no change is beyond chance."""
    result = read_result(path)
    count = len(result.victims)

    def all_of(judged):
        return [each.model_copy(update={"victim": each.victim + count * i}) for i in range(times) for each in judged]

    more = {name: all_of(getattr(result, name)) for name in ("cells", "extractions")}
    more["victims"] = [f"{victim} {i}" for i in range(times) for victim in result.victims]
    more["victim_accuracy"] = result.victim_accuracy * times
    write_result(result.model_copy(update=more), folder / "several.json")
    return folder / "several.json"


def test_what_moved_is_shown_and_can_fail(whorl, path, tmp_path):
    path = several(path, tmp_path)
    other = moved(path, tmp_path)
    done = whorl("bench", "diff", path, other)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "moved; if none had, up to " in done.stdout
    assert whorl("bench", "diff", path, other, "--fail-on", "moved").exit_code == 3
    document = json.loads(whorl("bench", "diff", path, other, "--json").stdout)
    assert (document["only_a"], document["only_b"]) == ([], [])
    figure = next(
        each
        for each in document["figures"]
        if (each["figure"], each["scheme"], each["family"]) == ("auc", "random", "")
    )
    assert figure["moved"]
    assert figure["change"] == pytest.approx(figure["second"] - figure["first"])
    assert figure["interval"]["high"] < 0


def test_what_only_one_has_is_shown(whorl, path, tmp_path):
    result = read_result(path)
    fewer = result.model_copy(update={"suite": "[bold]other", "rows": ["int8"]})
    write_result(fewer, tmp_path / "fewer.json")
    lines = whorl("bench", "diff", path, tmp_path / "fewer.json").stdout.splitlines()
    assert "only in A: row FTLL" in lines
    assert "only in B: suite [bold]other" in lines


def test_cells_and_models_are_exported_as_csv_and_parquet(whorl, path, tmp_path):
    result = read_result(path)
    for suffix in ("csv", "parquet"):
        assert (
            whorl("bench", "export", path, "-o", tmp_path / f"cells.{suffix}").stdout
            == f"{tmp_path / 'cells'}.{suffix}\n"
        )
        assert whorl("bench", "export", path, "--models", "-o", tmp_path / f"models.{suffix}").exit_code == 0
    for name, records, more in (("cells", result.cells, {"reason": None}), ("models", result.models, {})):
        rows = table_of(tmp_path / f"{name}.csv")
        expected = [{"suite": result.suite} | record.model_dump() | more for record in records]
        assert list(rows[0]) == list(expected[0])
        assert rows == [{key: "" if value is None else str(value) for key, value in row.items()} for row in expected]
        assert parquet_of(tmp_path / f"{name}.parquet") == expected


def table_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def parquet_of(path):
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


def test_models_of_an_older_result_are_refused(whorl, path, tmp_path):
    write_result(read_result(path).model_copy(update={"models": []}), tmp_path / "old.json")
    done = whorl("bench", "export", tmp_path / "old.json", "--models", "-o", tmp_path / "models.csv")
    assert done.exit_code == 2
    assert "before models were kept" in done.stderr


def test_a_site_is_built_from_named_results(whorl, path, tmp_path):
    done = whorl("bench", "site", path, "-o", tmp_path / "site")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'site' / 'index.html'}\n")
    assert "pages of 1 results" in done.stderr
    page = (tmp_path / "site" / "suite-tests-small.html").read_text()
    assert "whorl bench run tests/small" in page


def test_a_site_is_built_from_what_is_committed(whorl, tmp_path, monkeypatch):
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    for name in ("ipguard-digits.json", "field-cifar10.json", "speed.json"):  # the last is no result of a suite
        (results / name).symlink_to(ROOT / "benchmarks" / "results" / name)
    monkeypatch.chdir(tmp_path)
    assert whorl("bench", "site").exit_code == 0
    made = {page.name for page in (tmp_path / "site").iterdir()}
    assert {"index.html", "suite-ipguard-digits.html", "suite-field-cifar10.html", "scheme-ipguard.html"} < made


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["site", "-o", "site"], 2, "no results in benchmarks/results"),
        (["site", "missing.json"], 2, "missing.json"),
        (["site", "{path}", "{path}"], 2, "the same file name"),
        (["validate", "missing.json"], 2, "missing.json"),
        (["diff", "{path}", "missing.json"], 2, "missing.json"),
        (["diff", "{path}", "{path}", "--fail-on", "anything"], 2, "--fail-on takes moved"),
        (["diff", "{path}", __file__], 7, "test_board_verbs.py"),
        (["export", "{path}", "-o", "cells.xlsx"], 2, ".csv, .parquet, .json, not .xlsx"),
    ],
)
def test_a_mistake_ends_in_one_line(whorl, path, tmp_path, monkeypatch, arguments, code, told):
    monkeypatch.chdir(tmp_path)
    result = whorl("bench", *(argument.format(path=path) for argument in arguments))
    assert (result.exit_code, result.stdout) == (code, "")
    (line,) = result.stderr.splitlines()
    assert told in line
