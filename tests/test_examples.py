"""The worked examples run as they stand, cell after cell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import whorl

ROOT = Path(__file__).parents[1]
SOURCE = Path(whorl.__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path):
    told = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=os.environ
        | {
            "PYTHONPATH": str(SOURCE),
            "WHORL_CACHE": str(tmp_path / "cache"),
            "TMPDIR": str(tmp_path),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr


def test_examples_are_cells_that_begin_with_words():
    assert {path.stem for path in EXAMPLES} == {"owner", "scheme"}
    for path in EXAMPLES:
        cells = path.read_text(encoding="utf-8").split("# %%")[1:]
        assert cells[0].startswith(" [markdown]\n# # ")
        assert all(first.startswith(" [markdown]") for first in cells[::2])
        assert not any(code.startswith(" [markdown]") for code in cells[1::2])
