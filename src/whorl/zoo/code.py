"""Whose code makes what an expression or a recipe names: the targets that `whorl.revisions` takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final

from whorl.catalog import Catalog
from whorl.data import SOURCES
from whorl.errors import UsageError
from whorl.expressions import Call, Value, parse_chain
from whorl.nets import ESTIMATORS, NETS
from whorl.removals import REMOVALS
from whorl.zoo.kinds import kind_of
from whorl.zoo.recipe import Recipe
from whorl.zoo.steps import NET, OWNED

__all__ = ["code_of", "code_of_model", "content_key", "content_of_model"]

PARTS: Final = (NETS, ESTIMATORS, SOURCES)
"""What settings name: nets and data sets."""


@cache
def code_of(catalog: Catalog[Any], expression: str) -> frozenset[str]:
    """Targets of what an expression of a catalogue names, and of the nets and data sets among its settings.

    Raises:
        UsageError: no such name, as where the package of a plug-in is not installed.
    """
    call = catalog.bind(expression)
    return frozenset(catalog.targets(call.name)).union(*(_named(value, PARTS) for _, value in call.kwargs))


@cache
def code_of_model(recipe: Recipe) -> frozenset[str]:
    """Targets of all that make the model of a recipe."""
    catalogs = [catalog for _, catalog in recipe.steps]
    if recipe.kind == NET:
        catalogs += [REMOVALS, *PARTS]
    if OWNED in catalogs:  # imported here alone: the code of a model that nobody marked does not rest on schemes
        catalogs.append(import_module("whorl.schemes").MARKS)
    named = (target for step in recipe.chain.steps for target in _named(step, catalogs))
    return frozenset({*named, type(kind_of(recipe)).__module__})


@cache
def content_of_model(recipe: Recipe) -> str:
    """Digest of the files of all data that a recipe names, at any depth; empty where none of them reads a file.

    Raises:
        UsageError: a file or folder is not there.
    """
    return _content(call for step in recipe.chain.steps for call in _calls(step))


def content_key(recipes: Iterable[Recipe], data: str = "") -> dict[str, str]:
    """What a key must hold beside these recipes and this data set, since their words do not tell files of one name
    apart: ``content``, or nothing where no file is read.

    Raises:
        UsageError: a file or folder is not there.
    """
    found = sorted(({content_of_model(recipe) for recipe in recipes} | {_content(_calls(data))}) - {""})
    return {"content": ",".join(found)} if found else {}


def _content(calls: Iterable[Call]) -> str:
    found: dict[str, str] = {}
    for call in calls:
        if call.name not in SOURCES:
            continue
        try:
            source = SOURCES.make(call)
        except UsageError:  # a word of another kind that is also a source's name
            continue
        found[str(call)] = source.content()
    read = sorted((text, content) for text, content in found.items() if content)
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()[:12] if read else ""


def _named(value: Value, catalogs: Sequence[Catalog[Any]]) -> Iterator[str]:
    for call in _calls(value):
        for catalog in catalogs:
            if call.name in catalog:
                yield from catalog.targets(call.name)


def _calls(value: Value) -> Iterator[Call]:
    """Every expression within a value, also those that are given as text."""
    if isinstance(value, str):
        try:
            steps = parse_chain(value).steps
        except UsageError:  # a word of another kind
            return
        for step in steps:
            yield from _calls(step)
    elif isinstance(value, Call):
        yield value
        for inner in (*value.args, *(inner for _, inner in value.kwargs)):
            yield from _calls(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from _calls(inner)
