"""Every committed result of a suite is sound, or says that older code made it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whorl.bench.age import older_columns
from whorl.bench.result import read_result
from whorl.bench.submission import problems

FOLDER = Path(__file__).parents[2] / "benchmarks" / "results"
RESULTS = [
    path
    for path in sorted(FOLDER.glob("*.json"))
    if {"suite", "cells", "extractions", "columns"} <= json.loads(path.read_text(encoding="utf-8")).keys()
]


def test_there_are_results():
    assert len(RESULTS) >= 10


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_committed_result_is_sound_or_marked(path):
    result = read_result(path)
    found = problems(result)
    assert found == [] or older_columns(result).keys() == set(result.columns), found
