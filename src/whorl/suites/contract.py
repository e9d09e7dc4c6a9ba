"""The contract of a suite: nobody who is under test calibrates, teaches or trains, and every label means one row."""

from __future__ import annotations

from collections import Counter

from whorl.data import SOURCES
from whorl.errors import UsageError
from whorl.expressions import parse
from whorl.removals import REMOVALS
from whorl.schemes import SCHEMES
from whorl.suites.suite import Suite
from whorl.testing.promises import promise

__all__ = ["check_suite"]


def check_suite(suite: Suite) -> None:
    """Raise `AssertionError` unless the suite keeps the contract. Nothing is built or downloaded."""
    promise(suite.victims, f"{suite.name} has no victim")
    promise(suite.derived or any(suite.independents.values()), f"{suite.name} has nobody under test")
    promise(0 < suite.alpha < 1, f"{suite.name}: alpha is an error rate, not {suite.alpha}")
    promise(suite.about, f"{suite.name} does not say what it is about")
    _check_expressions(suite)
    _check_labels(suite)
    _check_apart(suite)


def _check_expressions(suite: Suite) -> None:
    for kind, catalog, texts in (
        ("scheme", SCHEMES, [*suite.schemes.values(), *suite.sweep.values()]),
        ("data", SOURCES, [suite.data_of(number) for number in range(len(suite.victims))]),
        (
            "removal",
            REMOVALS,
            [parse(step).name for row in suite.derived if row.removal for step in row.removal.split(" -> ")],
        ),
    ):
        for text in texts:
            try:
                catalog.bind(text) if kind != "removal" else catalog[text]
            except UsageError as error:
                raise AssertionError(f"{suite.name}: the {kind} {text!r} is none: {error}") from None
    promise(
        not suite.chosen or suite.chosen in suite.schemes, f"{suite.name} chooses {suite.chosen!r}, no column of it"
    )
    unknown = sorted(suite.budgets.keys() - suite.schemes.keys())
    promise(not unknown, f"{suite.name} gives a budget to {', '.join(unknown)}, no column of it")


def _check_labels(suite: Suite) -> None:
    twice = [label for label, count in Counter(row.label for row in suite.derived).items() if count > 1]
    promise(not twice, f"{suite.name} has two rows called {', '.join(twice)}")
    removals = Counter(row.removal for row in suite.derived)
    twice = [removal for removal, count in removals.items() if count > 1]
    promise(not twice, f"{suite.name} has two rows of {', '.join(twice)}, which would count one copy twice")


def _check_apart(suite: Suite) -> None:
    victims = {victim.digest for victim in suite.victims}
    promise(len(victims) == len(suite.victims), f"{suite.name} has a victim twice")
    tested = {suspect.recipe.digest: suspect.label for suspect in suite.suspects()}
    counted = sum(1 for _ in suite.suspects())
    promise(
        len(tested) == counted, f"{suite.name} tests {counted} suspects, of which {counted - len(tested)} are doubles"
    )
    for suspect in suite.suspects():
        own = [number for number in suspect.kinds if suite.victims[number] == suspect.recipe]
        promise(not own, f"{suite.name} holds {suspect.label} against its own fingerprint")
    null = Counter(recipe.digest for recipe in suite.null)
    promise(max(null.values(), default=1) == 1, f"{suite.name} has a model twice in its null")
    for recipe in suite.null:
        promise(recipe.digest not in tested, f"{suite.name}: {recipe} calibrates and is under test")
        promise(recipe.digest not in victims, f"{suite.name}: {recipe} is a victim and stands in the null")
    for victim in suite.victims:
        for row in suite.known:
            copy = victim.then(row.removal)
            promise(copy.digest not in tested, f"{suite.name}: {copy} measures power and is under test")
    try:
        suite.refuse_overlap()
    except UsageError as error:
        raise AssertionError(f"{suite.name}: {error}") from None
