"""What a shell completes: names of schemes, removals, suites, data and nets, each with a line about it.

A catalog of whorl is a literal in the source of its room, and is read as such: to import it would take torch, and with
it seconds, at each press of the key.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import Final

__all__ = [
    "architectures",
    "inspections",
    "marks",
    "masks_of_schemes",
    "removals",
    "scheme_or_auto",
    "schemes",
    "sieves",
    "sources",
    "suites",
]

ROOMS: Final = {
    "schemes": "whorl.schemes",
    "marks": "whorl.schemes",
    "inspections": "whorl.inspection",
    "sieves": "whorl.inspection",
    "removals": "whorl.removals",
    "suites": "whorl.suites.suite",
    "data": "whorl.data",
    "nets": "whorl.nets",
    "estimators": "whorl.nets",
}
"""Catalogs by kind, and where each is written."""

HEAD: Final = r"^(?:class|def) {}\b.*?(?=\n    (?:def |@)|\Z|\n(?=\S)(?!\)))"
WIDTH: Final = 76  # of a line of help, which shells show beside the name

Completed = list[tuple[str, str]]


def schemes(incomplete: str) -> Completed:
    """Schemes whose names begin so, with the idea of each."""
    return list(_begun("schemes", incomplete))


def scheme_or_auto(incomplete: str) -> Completed:
    """The same, and ``auto``."""
    auto = [("auto", "The best scheme for what is at hand.")] if "auto".startswith(incomplete) else []
    return auto + schemes(incomplete)


def marks(incomplete: str) -> Completed:
    """Marks whose names begin so, with the idea of each."""
    return list(_begun("marks", incomplete))


def masks_of_schemes(incomplete: str) -> Completed:
    """Schemes in a list that is joined by commas."""
    before, comma, last = incomplete.rpartition(",")
    return [(before + comma + name, told) for name, told in schemes(last)]


def inspections(incomplete: str) -> Completed:
    """Statistics that look for trojans and whose names begin so, with the idea of each."""
    return list(_begun("inspections", incomplete))


def sieves(incomplete: str) -> Completed:
    """Statistics that look for pictures with a trigger and whose names begin so, with the idea of each."""
    return list(_begun("sieves", incomplete))


def removals(incomplete: str) -> Completed:
    """Removals whose names begin so."""
    return list(_begun("removals", incomplete))


def suites(incomplete: str) -> Completed:
    """Suites whose names begin so."""
    return list(_begun("suites", incomplete))


def sources(incomplete: str) -> Completed:
    """Data whose names begin so."""
    return list(_begun("data", incomplete))


def architectures(incomplete: str) -> Completed:
    """Nets whose names begin so."""
    return list(_begun("nets", incomplete))


def _begun(kind: str, incomplete: str) -> Iterator[tuple[str, str]]:
    for name, target in sorted(_written(kind).items()):
        if name.startswith(incomplete):
            yield name, _about(*target.split(":"))
    for entry in sorted(entry_points(group=f"whorl.{kind}")):
        if entry.name.startswith(incomplete):
            yield entry.name, f"of {entry.dist.name}" if entry.dist else ""


def _written(kind: str) -> dict[str, str]:
    """Names and targets of whorl's own catalog of a kind."""
    for node in ast.walk(ast.parse(_source(ROOMS[kind]))):
        if isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[1], ast.Dict):
            called = node.args[0]
            if isinstance(called, ast.Constant) and called.value == kind:
                return ast.literal_eval(node.args[1])
    return {}


def _about(module: str, attribute: str) -> str:
    """The idea of a scheme, or else the first line that the source says of a class or function."""
    found = re.search(HEAD.format(re.escape(attribute)), _source(module), re.MULTILINE | re.DOTALL)
    if found is None:
        return ""
    (node,) = ast.parse(found[0]).body  # fields and docstring alone: to parse all files would be felt at the keyboard
    assert isinstance(node, ast.ClassDef | ast.FunctionDef)
    told = (ast.get_docstring(node) or "").partition("\n")[0]
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.target.id == "idea":
            told = str(field.value.value) if isinstance(field.value, ast.Constant) else told
    return shorten(told.replace("``", ""), WIDTH, placeholder=" ...")


@cache
def _source(module: str) -> str:
    package = find_spec("whorl")  # of a module below, this would import the room
    assert package is not None
    assert package.origin is not None
    place = Path(package.origin).parent.joinpath(*module.split(".")[1:])
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return file.read_text(encoding="utf-8")
