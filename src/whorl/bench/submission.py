"""Whether a result file can be taken at its word: what `whorl bench validate` checks before a leaderboard shows it.

Nothing is run again. A file passes when it is whole (every scheme met every suspect of every victim), consistent
(verdicts, counts and flags follow from the numbers beside them), says how to run it again, and is about the suite that
it names. Honest numbers it cannot tell from invented ones; the command it holds can.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Final, TypeAlias

from whorl.bench.lineups import BY, COLUMNS, by_scheme, expression_for, is_lineup
from whorl.bench.marks import is_drawn
from whorl.bench.result import Cell, Model, Refusal, Result, read_result
from whorl.errors import InvalidFile, UsageError
from whorl.schemes import SCHEMES
from whorl.storage import one_line
from whorl.suites.suite import SUITES, Suite, Suspect
from whorl.zoo.cache import DAMAGE
from whorl.zoo.recipe import parse_recipe

__all__ = ["MAX_CELLS", "MAX_NAME", "problems", "read_submission"]

MAX_CELLS: Final = 1_000_000
MAX_NAME: Final = 4096
COPIES: Final = ("derived", "beyond")
SLACK: Final = 1e-9

_Suspects: TypeAlias = Counter[tuple[str, str, str]]  # (kind, group, label), and how many there are


def read_submission(path: Path) -> tuple[Result | None, list[str]]:
    """The result, if it can be read at all, and everything that is wrong with it, a line each.

    Raises:
        UsageError: no such file.
    """
    try:
        result = read_result(path)
    except InvalidFile as error:
        return None, [one_line(error)]
    return result, problems(result)


def problems(result: Result) -> list[str]:
    """Everything that is wrong, a line each; empty for a sound result."""
    found = list(_sizes(result))
    if found:
        return found  # what is out of bounds is not looked at any further
    suite = _suite(result)
    if isinstance(suite, str):
        found.append(suite)
        suite = None
    checks = [_described(result, suite), _schemes(result, suite), _whole(result, suite), _numbers(result)]
    checks += [_verdicts(result), _damage(result), _models(result, suite), _again(result)]
    return [one_line(ValueError(line)) for line in [*found, *(line for check in checks for line in check)]]


def _sizes(result: Result) -> Iterator[str]:
    if len(result.cells) + len(result.refusals) > MAX_CELLS:
        yield f"{len(result.cells) + len(result.refusals):,} cells; at most {MAX_CELLS:,} are read"
    texts = [result.suite, result.about, result.command, *result.columns, *result.rows, *result.groups]
    texts += [text for item in (result.revisions or {}).items() for text in item]
    texts += [*result.victims, *(each.expression for each in result.extractions)]
    texts += [text for each in [*result.cells, *result.refusals] for text in (each.suspect, each.group, each.scheme)]
    if max(map(len, texts), default=0) > MAX_NAME:
        yield f"a name or expression of more than {MAX_NAME:,} characters"
    for what, count in (("columns", len(result.columns)), ("victims", len(result.victims))):
        if not count:
            yield f"no {what}"
    if len(result.victim_accuracy) != len(result.victims):
        yield f"{len(result.victims)} victims and {len(result.victim_accuracy)} accuracies of victims"
    strangers = [each.victim for each in _all(result) if each.victim >= len(result.victims)]
    strangers += [each.victim for each in result.extractions if each.victim >= len(result.victims)]
    if strangers:
        yield f"victim {max(strangers) + 1} of {len(result.victims)}"


def _suite(result: Result) -> Suite | str | None:
    """The part of the suite that was run, what is wrong with it, or None for a suite that is not known here."""
    if result.suite not in SUITES:
        return None
    try:
        suite = SUITES[result.suite]()
        suite = suite.limited(result.limit) if result.limit else suite
        return suite.attacked(result.removals) if result.removals != "*" else suite
    except UsageError as error:
        return f"this part of {result.suite} does not exist: {error}"


def _described(result: Result, suite: Suite | None) -> Iterator[str]:
    if suite is None:
        if result.suite in SUITES:
            return
        if not result.about.strip():
            yield f"{result.suite!r} is no suite that is known here, and about does not describe it"
        yield from (
            f"the recipe of a victim cannot be read: {error}" for error in map(_unread, result.victims) if error
        )
        return
    expected = {
        "victims": [str(victim) for victim in suite.victims],
        "rows": list(dict.fromkeys(row.group or row.label for row in suite.derived)),
        "groups": list(suite.independents),
        "alpha": suite.alpha,
        "null_size": len(suite.null),
    }
    for name, wanted in expected.items():
        given = getattr(result, name)
        if given != wanted:
            yield f"{name} of {suite.name} are {_short(wanted)}, not {_short(given)}"


def _schemes(result: Result, suite: Suite | None) -> Iterator[str]:
    made = Counter((each.scheme, each.victim) for each in result.extractions)
    for column in result.columns:
        for victim in range(len(result.victims)):
            if made[column, victim] != 1:
                yield f"{column}: {made[column, victim]} fingerprints of victim {victim + 1}, not one"
    if result.chosen and result.chosen not in result.columns:
        yield f"the chosen column {result.chosen!r} is none of the columns"
    bound: dict[str, str] = {}
    for column, text in dict.fromkeys((each.scheme, each.expression) for each in result.extractions):
        if is_lineup(text):
            bound[column] = text
            continue
        try:
            bound[column] = str(SCHEMES.bind(text))
        except UsageError as error:
            yield f"{column}: its package is not installed here, or its settings are unknown: {error}"
    for column in result.columns if suite else ():
        yield from _column(column, bound.get(column, ""), suite)


def _column(column: str, bound: str, suite: Suite | None) -> Iterator[str]:
    assert suite is not None
    name = re.sub(r" @\d+$", "", column)
    if column in COLUMNS:
        if bound not in {expression_for(COLUMNS[column], victim) for victim in suite.victims}:
            yield f"{column}: a lineup is run as {COLUMNS[column]}, not as {bound}"
        return
    by = name.removeprefix(BY) if name.startswith(BY) else ""
    name = by or name
    expected = suite.schemes.get(name) or (name if name in SCHEMES else "")  # any scheme as it is may join a suite
    if not expected:
        yield f"{column}: {suite.name} has no such column"
        return
    try:
        wanted = by_scheme(by, expected)[1] if by else str(SCHEMES.bind(expected))
    except UsageError as error:
        yield f"{column}: {error}"
        return
    if bound and bound != wanted:
        yield f"{column}: {suite.name} runs it as {wanted if by else expected}, not as {bound}"


def _whole(result: Result, suite: Suite | None) -> Iterator[str]:
    """Every fingerprint met every suspect of its victim once."""
    met: dict[tuple[str, int], _Suspects] = {(each.scheme, each.victim): Counter() for each in result.extractions}
    for each in _all(result):
        if (each.scheme, each.victim) not in met:
            yield f"{each.scheme}: judged suspects of victim {each.victim + 1} without a fingerprint"
            return
        met[each.scheme, each.victim][each.kind, each.group, each.suspect] += 1
    union = _union(result, met) if suite is None and result.layout != "marks" else {}
    asked = [] if suite is None else list(suite.suspects())  # once for all columns, as every recipe is bound anew
    for (column, victim), suspects in met.items():
        if suite is not None:
            expected = _expected(asked, column, victim)
        else:
            expected = union[victim] if union else _alike(column, met)
        lacking, beyond = expected - suspects, suspects - expected
        if lacking:
            yield f"{column}: victim {victim + 1} lacks {_short(_named(lacking))}"
        if beyond:
            yield f"{column}: victim {victim + 1} has too many of {_short(_named(beyond))}"


def _expected(asked: Iterable[Suspect], column: str, victim: int) -> _Suspects:
    """Whom this column meets of a victim: all its suspects, or those that hold this column's mark."""
    return Counter(
        (suspect.kinds[victim], suspect.group, suspect.label)
        for suspect in asked
        if victim in suspect.kinds and suspect.column in ("", column)
    )


def _union(result: Result, met: Mapping[tuple[str, int], _Suspects]) -> dict[int, _Suspects]:
    """Without a definition of the suite: what any scheme met, the models of a group for every victim.

    Copies and models of a group meet a fingerprint once. Copies of other victims share their labels, so that only
    schemes tell how many there are.
    """
    expected: dict[int, _Suspects] = {}
    for (_, victim), suspects in met.items():
        counts = {each: 1 if each[0] in COPIES or each[1] not in result.rows else suspects[each] for each in suspects}
        expected[victim] = expected.get(victim, Counter()) | Counter(counts)
    grouped = {each[1:]: each for suspects in expected.values() for each in suspects if each[1] not in result.rows}
    for suspects in expected.values():
        known = {each[1:] for each in suspects}
        suspects.update(each for place, each in grouped.items() if place not in known)
    return expected


def _alike(column: str, met: Mapping[tuple[str, int], _Suspects]) -> _Suspects:
    """What a mark's column met of any victim: each holds this mark, and their copies have equal labels."""
    found: _Suspects = Counter()
    for (each, _), suspects in met.items():
        found |= suspects if each == column else Counter()
    return found


def _numbers(result: Result) -> Iterator[str]:
    cells = result.cells
    lists = [values for each in result.extractions for values in (each.null, *each.known.values())]
    floats = [value for values in lists for value in values]
    yield from _count("similarities", "not finite", [not math.isfinite(value) for value in floats], "of calibration")
    yield from _count("similarities", "not finite", [not math.isfinite(cell.similarity) for cell in cells])
    yield from _count("p-values", "outside [0, 1]", [not 0 <= cell.p_value <= 1 for cell in cells])
    accuracies = [*(cell.accuracy for cell in cells), *result.victim_accuracy]
    yield from _count("accuracies", "above 1 or not finite", [not -math.inf < value <= 1 for value in accuracies])
    seconds = [*(cell.seconds for cell in cells), *(each.seconds for each in result.extractions)]
    yield from _count("durations", "negative or not finite", [not 0 <= value < math.inf for value in seconds])
    wrong = [not 1 <= cell.needed <= cell.spent for cell in cells]
    yield from _count("numbers of queries", "such that more were needed than spent, or none", wrong)
    labels = [
        cell.group not in (result.rows if cell.kind in COPIES else [*result.groups, *result.rows]) for cell in cells
    ]
    yield from _count("cells", "of a row or group that the result does not list", labels)


def _verdicts(result: Result) -> Iterator[str]:
    if not 0 < result.alpha < 1:
        yield f"alpha is an error rate between 0 and 1, not {result.alpha:g}"
        return
    # Twins stand in place of a null, and so does the draw of a mark, whose p-values no number of models bounds.
    twins = {each.scheme for each in result.extractions if is_lineup(each.expression)}
    drawn = {each.scheme for each in result.extractions if is_drawn(each.expression)}
    for each in result.extractions:
        if each.scheme not in twins | drawn and len(each.null) != result.null_size:
            yield f"{each.scheme}: a null of {len(each.null)} for victim {each.victim + 1}, not of {result.null_size}"
    known = ("derived", "unrelated", "inconclusive")
    yield from _count("decisions", "no verdict", [cell.decision not in known for cell in result.cells])
    derived = [cell for cell in result.cells if cell.decision == "derived"]
    needed = math.ceil(1 / result.alpha - SLACK) - 1
    by_null = [cell for cell in derived if cell.scheme not in twins | drawn]
    if by_null and result.null_size < needed:
        yield (
            f"{len(by_null)} suspects are called derived at alpha {result.alpha:g}, which needs a null of {needed}; "
            f"this one has {result.null_size}"
        )
    above = [cell.p_value > result.alpha + SLACK for cell in derived]
    yield from _count("suspects", f"called derived with a p-value above alpha {result.alpha:g}", above)
    lowest = {True: 1 / (needed + 1) - SLACK, False: 1 / (result.null_size + 1) - SLACK}
    ranked = [cell for cell in result.cells if cell.scheme not in drawn]
    below = [cell.p_value < lowest[cell.scheme in twins] for cell in ranked]
    yield from _count("p-values", "below 1/(N + 1)", below)


def _damage(result: Result) -> Iterator[str]:
    """A copy is damaged if it has over 5 points less accuracy than its victim, both on the task of the copy."""
    models = _by_suspect(result)
    references = {place: _reference(model, result, place[0]) for place, model in models.items()}
    wrong, other = 0, 0
    for cell in (cell for cell in result.cells if cell.kind in COPIES):
        place = (cell.victim, cell.group, cell.suspect)
        model = models.get(place)
        if model is not None:
            other += (model.damaged, model.accuracy) != (cell.damaged, cell.accuracy)
            reference = references[place]
        else:
            reference = None if result.models else result.victim_accuracy[cell.victim]
        if reference is not None:
            wrong += cell.damaged != (cell.accuracy < reference - DAMAGE)
    if wrong:
        yield f"{wrong} cells whose damaged flag does not follow from the accuracies of copy and victim"
    if other:
        yield f"{other} cells whose accuracy or damaged flag is not that of their model"


def _reference(model: Model, result: Result, victim: int) -> float | None:
    """The victim's accuracy on the task of its copy; None where it has other classes, or the result does not tell.

    The task of a copy may have other pictures: one that was transferred to corrupted ones is held against its victim
    there, which does worse on them than on its own.
    """
    try:
        recipe = parse_recipe(model.recipe)
    except UsageError:
        return None
    if model.agreement is None or str(recipe.victim) != result.victims[victim]:
        return None
    return result.victim_accuracy[victim] if recipe.data == recipe.victim.data else model.victim_accuracy


def _by_suspect(result: Result) -> dict[tuple[int, str, str], Model]:
    """The copies by victim, group and label."""
    return {
        (number, model.role, model.label): model
        for number, victim in enumerate(result.victims)
        for model in result.models
        if model.recipe.startswith(f"{victim} -> ")
    }


def _models(result: Result, suite: Suite | None) -> Iterator[str]:
    unread = {model.recipe: error for model in result.models if (error := _unread(model.recipe))}
    yield from (f"the recipe of a model cannot be read: {error}" for error in unread.values())
    tested = {str(parse_recipe(model.recipe)) for model in result.models if model.recipe not in unread}
    if suite is None:
        return
    null = {str(recipe) for recipe in suite.null}
    tested |= set(result.victims)
    yield from (f"a model under test is in the null: {_short(recipe)}" for recipe in sorted(tested & null))
    if result.models:
        asked = [suspect for suspect in suite.suspects() if suspect.column in ("", *result.columns)]
        wanted = {str(suspect.recipe) for suspect in asked} | {str(victim) for victim in suite.victims}
        for what, recipes in (("lack", wanted - tested), ("add", tested - wanted)):
            if recipes:
                yield f"the models {what} {_short(sorted(recipes))} of {suite.name}"


def _again(result: Result) -> Iterator[str]:
    try:
        date.fromisoformat(result.date)
    except ValueError:
        yield f"the date of the run is given as in 2026-11-22, not as {result.date!r}"
    if not result.command.strip():
        yield "the command that runs it again is missing"
    elif result.suite not in result.command:
        yield f"the command does not run {result.suite}: {result.command}"


def _all(result: Result) -> list[Cell | Refusal]:
    return [*result.cells, *result.refusals]


def _count(what: str, why: str, wrong: list[bool], where: str = "") -> Iterator[str]:
    if any(wrong):
        yield f"{sum(wrong)} of {len(wrong)} {what}{f' {where}' if where else ''} are {why}"


def _named(suspects: Iterable[tuple[str, str, str]]) -> list[str]:
    return [f"{label} ({kind})" for kind, _, label in suspects]


def _unread(recipe: str) -> str:
    try:
        parse_recipe(recipe)
    except UsageError as error:
        return str(error)
    return ""


def _short(value: object, most: int = 4) -> str:
    """A value in few words; of a list the first few, and how many."""
    if not isinstance(value, list):
        return f"{value:g}" if isinstance(value, float) else str(value)
    shown = ", ".join(text if len(text := str(each)) < 90 else f"{text[:60]}…{text[-20:]}" for each in value[:most])
    return f"{shown} and {len(value) - most} more" if len(value) > most else shown or "none"
