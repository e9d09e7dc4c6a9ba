"""Which columns of a result were made by older code than this, so that nobody takes them for what it does now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pydantic import ValidationError

from whorl.bench import grid, lineups, marks, work
from whorl.bench.grid_result import GridResult
from whorl.bench.lineups import is_lineup, scheme_in
from whorl.bench.result import Result
from whorl.data import SOURCES
from whorl.errors import UsageError
from whorl.revisions import changed_since
from whorl.schemes import MARKS, SCHEMES
from whorl.suites.suite import SUITES, Suite
from whorl.zoo.code import code_of, code_of_model
from whorl.zoo.recipe import parse_recipe

__all__ = ["note", "older_columns", "older_points"]


def older_columns(result: Result) -> dict[str, str]:
    """Column to what changed in the code since, in words; columns that this code would make alike are left out.

    A scheme whose package is not installed cannot be compared and is named as such.
    """
    suite = _suite(result.suite)
    shared = {work.__name__} | _code_of([*result.victims, *(model.recipe for model in result.models)])
    learned: set[str] = set()
    if suite is not None:
        calibrating = [*suite.null, *(victim.then(row.removal) for victim in suite.victims for row in suite.known)]
        data = {suite.data_of(number) for number in range(len(suite.victims))}
        shared |= _code_of(map(str, calibrating)).union(*(code_of(SOURCES, each) for each in data))
        learned = _code_of(str(recipe) for victim in suite.victims for recipe in suite.shadows.recipes(victim))
    expressions = {made.scheme: made.expression for made in result.extractions}
    return dict(_changed(result.revisions, expressions, result.columns, shared, learned))


def older_points(result: GridResult) -> dict[str, str]:
    """The same for the combinations of a grid."""
    suite = _suite(result.suite)
    models = [*result.victims, *(str(suspect.recipe) for suspect in (suite.suspects() if suite else ()))]
    names = dict.fromkeys(figure.combination for figure in result.figures)
    expressions = {name: _point(name) for name in names}
    return dict(_changed(result.revisions, expressions, list(names), {grid.__name__} | _code_of(models), set()))


def note(older: Mapping[str, str], command: str) -> str:
    """One line on columns that are older than the code, with what to type; empty where none is."""
    if not older:
        return ""
    reasons: dict[str, list[str]] = {}
    for column, why in older.items():
        reasons.setdefault(why, []).append(column)
    told = "; ".join(f"{', '.join(columns)} ({why})" for why, columns in reasons.items())
    return f"made by older code: {told}. Run again: {command}"


def _changed(
    recorded: Mapping[str, str] | None,
    expressions: Mapping[str, str],
    columns: Iterable[str],
    shared: set[str],
    learned: set[str],
) -> Iterator[tuple[str, str]]:
    for column in columns:
        expression = expressions.get(column, column)
        try:
            lined_up, marked = is_lineup(expression), expression.partition("(")[0] in MARKS
            code = {lineups.__name__} if lined_up else {marks.__name__} if marked else set[str]()
            scheme = scheme_in(expression) if lined_up else expression
            learns = bool(scheme) and SCHEMES.make(scheme).needs_pool
            code |= (code_of(SCHEMES, scheme) if scheme else set()) | (learned if learns else set())
            why = changed_since(recorded, shared | code)
        except (UsageError, ValidationError):
            why = "revision unknown: its package is not installed here, or its settings are not those of this version"
        if why:
            yield column, why


def _point(name: str) -> str:
    """A combination as an expression; one that is not known here stays as it is, and is told so."""
    try:
        return f"{name}{grid.settings_of(name.split('+')[0])}"
    except UsageError:
        return name


def _code_of(recipes: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for text in recipes:
        try:
            found |= code_of_model(parse_recipe(text))
        except UsageError:  # somebody else's removal; `whorl bench validate` says so
            continue
    return found


def _suite(name: str) -> Suite | None:
    return SUITES[name]() if name in SUITES else None
