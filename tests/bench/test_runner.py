"""A suite runs, keeps everything, and computes nothing twice."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import replace

import pytest
from tiny_suite import models, tiny_suite

from whorl.bench.age import older_columns
from whorl.bench.export import write_table
from whorl.bench.result import Refusal, read_result, write_result
from whorl.bench.runner import run
from whorl.bench.standings import standings
from whorl.bench.summary import summarise
from whorl.engine.store import Store
from whorl.errors import InvalidFile, UsageError
from whorl.schemes import SCHEMES
from whorl.schemes.opening import read_fingerprint
from whorl.zoo.cache import Zoo

SUITE = tiny_suite()


class Progress:
    """Logs (stage, done, total)."""

    def __init__(self):
        self.calls = []

    def __call__(self, *call):
        self.calls.append(call)

    def of(self, stage):
        return [(done, total) for name, done, total in self.calls if name == stage]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def progress():
    return Progress()


@pytest.fixture(scope="module")
def result(folder, progress):
    return run(SUITE, folder=folder, workers=1, progress=progress)


def test_every_suspect_meets_every_fingerprint_of_its_victim(result):
    schemes = {"random", "fgsm", "fgsm k=0.02", "fgsm k=0.3"}
    cells = {(cell.victim, cell.scheme, cell.suspect) for cell in result.cells}
    suspects = ["int8", "FTLL", "WP p=.95", "labels", "same 1", "same 2", "random forest 1"]
    assert cells == {(victim, scheme, suspect) for victim in (0, 1) for scheme in schemes for suspect in suspects}
    assert len(result.cells) == len(cells)
    kinds = {cell.suspect: cell.kind for cell in result.cells}
    assert [kinds[suspect] for suspect in suspects] == ["derived"] * 3 + ["beyond"] + ["independent"] * 3


def test_result_describes_the_suite(result):
    assert (result.suite, result.alpha, result.budget, result.limit, result.null_size) == ("tiny", 0.25, 20, 0, 4)
    assert result.columns == ["random", "fgsm"]
    assert result.rows == ["int8", "FTLL", "WP p=.95", "labels"]
    assert result.groups == ["same", "random forest"]
    assert result.sweep == {"0.02": "fgsm(epsilon=0.02)", "0.3": "fgsm(epsilon=0.3)"}
    assert result.paper == {"FTLL": {"fgsm": ".90"}}
    assert result.machine.cores > 0
    assert result.machine.versions["torch"]


def test_cells_are_what_the_scheme_says(result, folder):
    """Each similarity again, from the fingerprint and the model on disk."""
    zoo = Zoo(folder)
    for extraction in result.extractions:
        fingerprint = read_fingerprint(folder / "fingerprints" / extraction.pictures)
        scheme = SCHEMES.make(fingerprint.scheme)
        assert len(fingerprint.queries) == (30 if extraction.scheme == "random" else 20)
        assert fingerprint.victim == SUITE.victims[extraction.victim].digest
        assert [scheme.observe(fingerprint, zoo.oracle(each)).similarity for each in SUITE.null] == extraction.null
        assert list(extraction.known) == ["fine-tune"]
        for row in SUITE.derived:
            copy = zoo.oracle(SUITE.victims[extraction.victim].then(row.removal))
            (cell,) = [
                cell
                for cell in result.cells
                if (cell.victim, cell.scheme, cell.suspect) == (extraction.victim, extraction.scheme, row.label)
            ]
            assert cell.similarity == scheme.observe(fingerprint, copy).similarity
            verdict = scheme.verify(fingerprint, copy, alpha=SUITE.alpha)
            assert cell.decision == verdict.decision
            assert cell.needed <= cell.spent == len(fingerprint.queries)
            assert cell.accuracy == zoo.card(SUITE.victims[cell.victim].then(row.removal)).accuracy


def test_copies_that_lost_their_accuracy_are_marked(result):
    assert all(cell.damaged for cell in result.cells if cell.suspect == "WP p=.95")
    assert not any(cell.damaged for cell in result.cells if cell.kind == "independent" or cell.suspect == "int8")


def test_progress_counts_to_the_end(result, progress):
    for stage in ("models", "fingerprints", "suspects"):
        counts = progress.of(stage)
        assert counts[0][0] == 0
        assert counts[-1][0] == counts[-1][1] > 0
        assert [done for done, _ in counts] == sorted({done for done, _ in counts})
    assert progress.of("models")[0][1] == len({recipe.digest for recipe in SUITE.recipes()})


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


def test_a_second_run_computes_nothing(result, folder):
    stamps, cells = everything(folder), len(Store(folder / "results.sqlite"))
    assert cells == len({(cell.victim, cell.scheme, cell.suspect) for cell in result.cells})
    progress = Progress()
    again = run(SUITE, folder=folder, workers=1, progress=progress)
    assert again == result
    assert everything(folder) == stamps
    assert len(Store(folder / "results.sqlite")) == cells
    assert all(done == total for _, done, total in progress.calls)


def untimed(cells):
    return [cell.model_copy(update={"seconds": 0.0}) for cell in cells]


def test_a_run_goes_on_where_it_stopped(result, folder):
    """One fingerprint and some cells are lost: only they, and what hangs on them, are made again."""
    store = Store(folder / "results.sqlite")
    keys = [key for (key,) in store._database.execute("SELECT key FROM cells ORDER BY key")]
    with store._database:
        store._database.executemany("DELETE FROM cells WHERE key = ?", [(key,) for key in keys[::9]])
    lost = next(each for each in result.extractions if (each.victim, each.scheme) == (1, "random"))
    (folder / "fingerprints" / lost.pictures).unlink()
    (folder / "fingerprints" / lost.pictures).with_suffix(".json").unlink()  # what it cost
    stamps = everything(folder)
    progress = Progress()
    again = run(SUITE, folder=folder, workers=1, progress=progress)
    assert progress.of("models") == [(19, 19)]
    assert progress.of("fingerprints") == [(7, 8), (8, 8)]
    assert {path: stamp for path, stamp in everything(folder).items() if path in stamps} == stamps
    assert untimed(again.cells) == untimed(result.cells)


def test_other_settings_are_other_cells(result, folder):
    """Another alpha asks the models again and keeps models and fingerprints."""
    stamps, before = everything(folder), len(Store(folder / "results.sqlite"))
    other = run(replace(SUITE, alpha=0.3), folder=folder, schemes="random", workers=1)
    assert everything(folder) == stamps
    assert len(Store(folder / "results.sqlite")) == before + len(other.cells)
    assert [cell.similarity for cell in other.cells] == [
        cell.similarity for cell in result.cells if cell.scheme == "random"
    ]


@pytest.mark.parametrize(
    ("masks", "columns"),
    [("rand*", ["random"]), ("fgsm,random", ["random", "fgsm"]), ("fgsm, random", ["random", "fgsm"])],
)
def test_schemes_can_be_chosen(result, folder, masks, columns):
    assert run(SUITE, folder=folder, schemes=masks, workers=1).columns == columns


def test_a_scheme_that_the_suite_lacks_is_refused_before_anything_is_built(tmp_path):
    with pytest.raises(UsageError, match="It has random, fgsm"):
        run(SUITE, folder=tmp_path, schemes="ipgard")
    assert not list(tmp_path.iterdir())


def test_json_reads_back(result, tmp_path):
    write_result(result, tmp_path / "result.json")
    assert read_result(tmp_path / "result.json") == result


@pytest.mark.parametrize(
    "change",
    [
        {"format": 3},
        {"cells": [{}]},
        {"cells": {}},
        {"cells": {"fields": ["victim"], "rows": [[1, 2]]}},
        {"more": 1},
        {"alpha": "small"},
    ],
)
def test_a_result_that_lies_is_one_clear_line(result, tmp_path, change):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result.model_dump() | change))
    with pytest.raises(InvalidFile, match="is not a result") as caught:
        read_result(path)
    assert "\n" not in str(caught.value)


def test_parquet_has_every_cell(result, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_table(result, tmp_path / "cells.parquet")
    rows = parquet.read_table(tmp_path / "cells.parquet").to_pylist()
    assert [row.pop("suite") for row in rows] == ["tiny"] * len(result.cells)
    assert rows == [cell.model_dump() | {"reason": None} for cell in result.cells]


def test_a_refusal_has_a_row_of_its_own(result, tmp_path):
    last = result.cells[-1]
    about = {
        name: getattr(last, name) for name in ("victim", "scheme", "suspect", "group", "kind", "family", "damaged")
    }
    refused = Refusal(**about, reason="=grants nothing")
    write_table(result.model_copy(update={"refusals": [refused]}), tmp_path / "cells.csv")
    *cells, row = csv.DictReader((tmp_path / "cells.csv").open(encoding="utf-8", newline=""))
    assert len(cells) == len(result.cells)
    assert {key: row[key] for key in ("suspect", "similarity", "decision", "reason")} == {
        "suspect": last.suspect,
        "similarity": "",
        "decision": "refused",
        "reason": "'=grants nothing",
    }


def test_the_table_of_a_run(result):
    """The summary of a real run: ranges of real cells."""
    table = summarise(result)
    for column in table.columns:
        scheme = column.name if column.name == "random" else f"fgsm k={table.best_k:g}"
        same = [c.similarity for c in result.cells if (c.scheme, c.group) == (scheme, "same")]
        assert column.groups["same"].count == 4
        assert (column.groups["same"].low, column.groups["same"].high) == (min(same), max(same))
        assert column.rows["int8"].mean > column.groups["same"].mean


def test_another_installed_scheme_is_a_column_by_its_name(folder):
    result = run(SUITE, folder=folder, schemes="akh,rand*", workers=1)
    assert result.columns == ["random", "akh"]
    assert {extraction.expression for extraction in result.extractions if extraction.scheme == "akh"} == {
        str(SCHEMES.bind("akh"))
    }
    with pytest.raises(UsageError, match="added by its name"):
        run(SUITE, folder=folder, schemes="no-such-scheme", workers=1)


def test_lineups_are_columns_beside_the_schemes(folder, tmp_path):
    suite = tiny_suite(victims=SUITE.victims[:1], null=(), known=(), sweep={}, chosen="", alpha=0.25, layout="field")
    started = time.perf_counter()
    result = run(suite, folder=folder, schemes="none", lineup=True, workers=1)
    assert all(0 < cell.seconds < time.perf_counter() - started for cell in result.cells)
    assert result.columns == ["lineup", "lineup, labels"]
    twins = [recipe.digest for recipe in suite.twins(0)]
    assert len(twins) == 3, "as few as can call a copy derived at alpha 1/4"
    assert not Zoo(folder).missing(suite.twins(0))
    cells = {(cell.scheme, cell.suspect): cell for cell in result.cells}
    assert len(cells) == 2 * 7
    for column in result.columns:
        assert cells[column, "int8"].decision == "derived"
        assert {cells[column, f"same {number}"].p_value for number in (1, 2)} <= {0.25, 0.5, 0.75, 1.0}
    asked = {column: cells[column, "FTLL"].spent for column in result.columns}
    assert asked["lineup"] == 334, "a third of the thousand questions, where scores are given"
    rows = {row.name: row for row in standings(result)}
    assert rows["lineup"].victim_access == "training"
    assert [rows[name].suspect_access for name in result.columns] == ["probabilities", "labels"]
    assert rows["lineup"].inputs == 1000
    table = {column.name: column for column in summarise(result.model_copy(update={"layout": "paper"})).columns}
    assert [(table[name].rows["int8"].derived, table[name].aruc) for name in result.columns] == [(1, None)] * 2
    path = tmp_path / "result.json"
    write_result(result, path)
    assert not older_columns(read_result(path))
    again = Progress()
    assert run(suite, folder=folder, schemes="none", lineup=True, workers=1, progress=again).cells == result.cells
    assert again.of("suspects") == [(7, 7)]


def test_lineups_of_a_last_stage_are_levelled(folder):
    """Twins of a victim of several steps share all but the last; of one step nothing."""
    victims = (SUITE.victims[0], SUITE.victims[1].then("transfer(digits(size=8), epochs=1, seed=3)"))
    suite = tiny_suite(victims=victims, null=(), known=(), sweep={}, chosen="", derived=SUITE.derived[:1])
    result = run(suite, folder=folder, schemes="none", lineup=True, workers=1)
    made = {(each.victim, each.scheme): each.expression for each in result.extractions}
    assert [made[victim, "lineup"] for victim in (0, 1)] == ["lineup", "lineup(scores=levelled)"]
    assert {made[victim, "lineup, labels"] for victim in (0, 1)} == {"lineup(scores=mixture)"}
    assert {row.suspect_access for row in standings(result) if row.name == "lineup"} == {"probabilities"}


def test_lineups_by_schemes_are_columns_too(folder, tmp_path):
    suite = tiny_suite(victims=SUITE.victims[:1], null=(), known=(), sweep={}, chosen="", alpha=0.25, layout="field")
    result = run(suite, folder=folder, schemes="none", by="rand*,sac-normal", workers=1)
    assert result.columns == ["lineup by random", "lineup by sac-normal"]
    cells = {(cell.scheme, cell.suspect): cell for cell in result.cells}
    assert {cell.spent for cell in result.cells if cell.scheme == "lineup by random"} == {4 * 30}, "as the suite has it"
    assert {cell.spent for cell in result.cells if cell.scheme == "lineup by sac-normal"} == {4 * 20}
    assert all(cells[column, "int8"].decision == "derived" for column in result.columns)
    rows = {row.name: row for row in standings(result)}
    assert [rows[name].suspect_access for name in result.columns] == ["labels", "probabilities"]
    assert rows["lineup by random"].inputs == 120
    path = tmp_path / "result.json"
    write_result(result, path)
    assert not older_columns(read_result(path))
    older = {**result.revisions, "whorl.schemes.sac_normal": "0"}
    assert set(older_columns(result.model_copy(update={"revisions": older}))) == {"lineup by sac-normal"}
    with pytest.raises(UsageError, match="fbi learns from shadow models, and twins have none of their own"):
        run(suite, folder=folder, schemes="none", by="fbi", workers=1)
    with pytest.raises(UsageError, match="no scheme of tiny that can do without shadow models matches 'z"):
        run(suite, folder=folder, schemes="none", by="z*", workers=1)


def test_the_same_null_serves_as_twins(folder):
    null = models("mlp(width=16)", "digits(size=8), epochs=6", range(30, 33))
    suite = tiny_suite(null=null, alpha=0.25)
    assert suite.twins(0) == suite.twins(1) == null
    assert tiny_suite(null=null[:2], alpha=0.25).twins(0) != null, "two do not reach alpha"
