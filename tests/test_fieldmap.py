"""The table of the field names verbs, suites, schemes, scripts and results that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import whorl
from whorl.cli.exits import VERBS
from whorl.suites.suite import SUITES

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs" / "fieldmap.md").read_text(encoding="utf-8")
ROWS = [line for line in TABLE.splitlines() if line.startswith("| ") and "`" in line]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_what_a_row_names_exists():
    assert len(ROWS) > 40
    for row in ROWS:
        for result in re.findall(r"`([a-z0-9-]+\.json)`", row):
            json.loads((ROOT / "benchmarks" / "results" / result).read_text(encoding="utf-8"))
        for script in re.findall(r"`python (benchmarks/[a-z_]+\.py)`", row):
            assert (ROOT / script).is_file(), script
        for command in re.findall(r"`whorl ([^`]*)`", row):
            words = command.split()
            assert words[0] in VERBS or " ".join(words[:2]) in VERBS, command
            assert words[0] != "bench" or words[2] in SUITES, command
            assert "--scheme" not in words or words[-1] in whorl.SCHEMES, command


def test_every_row_says_what_came_of_it():
    for row in ROWS:
        result = row.split("|")[3]
        assert "`" in result or "no table" in result or "test" in result, row


def test_the_readme_counts_what_there_is():
    assert f"| schemes | {len(whorl.SCHEMES)} names" in README
    assert f"| removals | {len(whorl.REMOVALS)} (" in README
