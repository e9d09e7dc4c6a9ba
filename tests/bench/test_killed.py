"""kill -9 of workers and of whoever drives them costs at most what was in flight, and changes no figure."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tiny_suite import least_suite

from whorl.bench.runner import run

MOMENTS = (("models", 4), ("fingerprints", 1), ("suspects", 2))
TOTALS = {"models": 8, "fingerprints": 2, "suspects": 4}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return run(least_suite(), folder=tmp_path_factory.mktemp("undisturbed"), workers=1)


def figures(result):
    """All that is not a time."""
    cells = [cell.model_copy(update={"seconds": 0.0}) for cell in result.cells]
    return cells, [(each.null, each.known, each.notes) for each in result.extractions], result.refusals


def kept(folder):
    """Every model and fingerprint by when it was written, every cell by its row and document."""
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix in (".safetensors", ".skops")}
    store = folder / "results.sqlite"
    if not store.exists():
        return files, {}
    with closing(sqlite3.connect(store)) as database:
        return files, {key: rest for key, *rest in database.execute("SELECT key, rowid, document FROM cells")}


def assert_untouched(before, after):
    for old, new in zip(before, after, strict=True):
        assert {name: new.get(name) for name in old} == old


def test_a_killed_driver_loses_at_most_what_was_in_flight(reference, tmp_path):
    """Killed in every stage, and begun again each time."""
    script = Path(__file__).parents[1] / "run_tiny.py"
    before = kept(tmp_path)
    for stage, count in MOMENTS:
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path), stage, str(count)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            timeout=500,
        )
        assert done.returncode == -signal.SIGKILL
        after = kept(tmp_path)
        assert_untouched(before, after)
        assert not after[1] or stage == "suspects"
        before = after
    assert 0 < len(before[1]) < len(reference.cells), "killed between the cells"
    calls = []
    result = run(least_suite(), folder=tmp_path, workers=1, progress=lambda *call: calls.append(call))
    first = {stage: done for stage, done, _ in reversed(calls)}
    assert first == TOTALS | {"suspects": 2}, "what was kept is not computed again"
    assert_untouched(before, kept(tmp_path))
    assert figures(result) == figures(reference)


def test_killed_workers_are_replaced_and_the_run_goes_on(reference, tmp_path):
    """All of them at once, in every stage."""
    stored, victims, seen = [], set(), []

    def kill(stage, done, total):
        seen.append((stage, done, total))
        if (stage, done) in MOMENTS:
            stored.append(kept(tmp_path))
            for process in multiprocessing.active_children():
                victims.add(process.pid)
                os.kill(process.pid, signal.SIGKILL)

    result = run(least_suite(), folder=tmp_path, workers=2, progress=kill)
    assert len(victims) > len(MOMENTS)
    files, rows = kept(tmp_path)
    for before in stored:
        # A worker may be killed after it wrote a file and before it said so: that much was in flight.
        assert sum(files.get(path) != written for path, written in before[0].items()) <= 2
        assert {key: rows.get(key) for key in before[1]} == before[1]
    assert figures(result) == figures(reference)
    for stage, total in TOTALS.items():
        assert [done for name, done, _ in seen if name == stage] == list(range(total + 1)), "each task once"
