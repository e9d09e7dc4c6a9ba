"""What the command can do, `import whorl` can: docs/python.md names the public names of every verb."""

import re
from pathlib import Path

import typer

import whorl
from whorl.cli.app import app

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
WALKS = {"demo", "doctor"}
METHODS = {"zoo list", "zoo card", "zoo export"}


def verbs(command, path=()):
    inner = getattr(command, "commands", {})
    if not inner:
        yield " ".join(path)
    for name, each in inner.items():
        yield from verbs(each, (*path, name))


def test_every_verb_has_its_public_names_and_every_name_a_verb():
    page = PAGE.read_text(encoding="utf-8")
    table = {
        verb: set(re.findall(r"`(\w+)`", names))
        for verb, names in re.findall(r"^\| `whorl (.+)` \| (.+) \|$", page, re.M)
    }
    assert {*table, *WALKS, *METHODS} == set(verbs(typer.main.get_command(app)))
    below = {name for name in whorl.__all__ if re.search(rf"`(whorl\.)?{name}\b", page.partition("`whorl demo`")[2])}
    assert set(whorl.__all__) == set().union(*table.values()) | below
