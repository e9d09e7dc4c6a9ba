"""What a leaderboard ranks: every scheme of every result, on boards of equal victims, suspects and null.

Results that asked the same suspects about the same victims share a board, whoever ran them. A limited run has other
suspects and so a board of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from whorl.bench.age import older_columns
from whorl.bench.parts import by_scheme, families_of, of_family, of_row, standing, with_families
from whorl.bench.result import Result
from whorl.bench.standings import Standing
from whorl.errors import UsageError
from whorl.expressions import parse
from whorl.metrics import FEWEST

__all__ = ["ADAPTIVE", "FLAGS", "Attack", "Board", "BoardEntry", "Run", "boards_of", "leaders"]

FEW: Final = 20
"""Independent models below which a suite is flagged."""

ADAPTIVE: Final = frozenset({"adversarial", "defend", "distil", "extract", "input", "removal-net", "scramble", "shift"})
"""Families of removal whose thief trains a new model, aims at fingerprints, or treats questions and answers."""

FLAGS: Final = {
    "few negatives": f"Fewer than {FEW} independent models were held against a victim: rare false accusations cannot "
    "show, and the AUC rests on few comparisons.",
    "few victims": f"Fewer than {FEWEST} victims: too few to tell how much victims differ. Two numbers beside a figure "
    "are the victims' range and no interval.",
    "one victim": "One victim: nothing tells how much victims differ. An interval, where there is one, covers other "
    "models of the same victim and not other victims.",
    "no null": "The null is too small for the error rate asked for: no scheme can call a suspect derived, so that "
    "nothing is known of its verdicts and accusations and AUC ranks it.",
    "no adaptive attack": "No copy that kept its accuracy was extracted, distilled, adversarially trained or otherwise "
    "made to shed a fingerprint. Direct copies are easy for most schemes.",
    "limited run": "Only a part of the suite was run. Its figures are no substitute for those of the whole.",
}
"""Sign of a weak evaluation -> what it means."""


@dataclass(frozen=True)
class Run:
    """Where figures come from: a file, the day, and what was typed on which machine."""

    file: str
    date: str
    command: str
    machine: str
    versions: str


@dataclass(frozen=True)
class BoardEntry:
    """One scheme on one board. ``name`` is its column, ``scheme`` its name in the catalog.

    ``families`` and ``rows`` hold the same figures of the copies of one family or one row alone; None where none of
    them kept its accuracy.
    """

    name: str
    scheme: str
    whole: Standing
    families: Mapping[str, Standing | None]
    rows: Mapping[str, Standing | None]
    run: Run
    asked: bool
    """Whether the time of a verification was measured."""
    older: str = ""
    """What changed in the code since, in words; empty where this code would make the same figures."""


@dataclass(frozen=True)
class Attack:
    """One row of copies: means over victims; None for what the result does not tell. ``count`` copies were made."""

    label: str
    family: str
    accuracy: float
    fidelity: float | None
    queries: float | None
    seconds: float | None
    damaged: int
    count: int


@dataclass(frozen=True)
class Board:
    """A ranking, the best first, as `Standing.order` has it."""

    suite: str
    about: str
    part: str
    """What of the suite was run; empty for all of it."""
    victims: int
    victim_accuracy: float
    copies: int
    independents: int
    null: int
    alpha: float
    families: tuple[str, ...]
    attacks: tuple[Attack, ...]
    entries: tuple[BoardEntry, ...]
    flags: tuple[str, ...]
    runs: tuple[Run, ...]

    @property
    def date(self) -> str:
        """Of the newest run; empty where none is known."""
        return max(run.date for run in self.runs)


def boards_of(results: Mapping[str, Result]) -> list[Board]:
    """File name to result -> the boards: whole suites before limited runs, those with the fewest flags first."""
    groups: dict[object, list[tuple[str, Result]]] = {}
    for file, result in results.items():
        groups.setdefault(_test(result), []).append((file, with_families(result)))
    boards = [board for group in groups.values() if (board := _board(group))]
    return sorted(boards, key=lambda board: (board.part != "", len(board.flags), board.suite, -board.copies))


def leaders(entries: Iterable[BoardEntry]) -> list[BoardEntry]:
    """The first entry and those tied with it; none where all accuse clearly more often than alpha."""
    ranked = sorted(entries, key=lambda entry: entry.whole.order)
    return [entry for entry in ranked if entry.whole.tied(ranked[0].whole)]


def _test(result: Result) -> object:
    """What two results must have in common to be compared."""
    suspects = Counter(
        (each.victim, each.kind, each.group, each.suspect)
        for each in [*result.cells, *result.refusals]
        if each.scheme == result.columns[0]
    )
    return result.suite, tuple(result.victims), result.alpha, result.null_size, frozenset(suspects.items())


def _board(group: list[tuple[str, Result]]) -> Board | None:
    results = [result for _, result in group]
    entries = _entries(group)
    if not entries:
        return None
    first, attacks = results[0], _attacks(results)
    strangers = _strangers(first)
    kept = {attack.family for attack in attacks if attack.damaged < attack.count}
    part = _part(first)
    signs = {
        "few negatives": strangers < FEW,
        "few victims": 1 < len(first.victims) < FEWEST,
        "one victim": len(first.victims) == 1,
        "no null": any(entry.whole.power is None for entry in entries),
        "no adaptive attack": not kept & ADAPTIVE,
        "limited run": bool(part),
    }
    return Board(
        suite=first.suite,
        about=first.about,
        part=part,
        victims=len(first.victims),
        victim_accuracy=float(np.mean(first.victim_accuracy)),
        copies=sum(attack.count - attack.damaged for attack in attacks),
        independents=strangers,
        null=first.null_size,
        alpha=first.alpha,
        families=tuple(families_of(first)),
        attacks=tuple(attacks),
        entries=tuple(entries),
        flags=tuple(flag for flag in FLAGS if signs[flag]),
        runs=tuple(dict.fromkeys(entry.run for entry in entries)),
    )


def _strangers(result: Result) -> int:
    """Independent models that meet the fingerprints of a victim, where they are fewest."""
    met = Counter(
        each.victim
        for each in [*result.cells, *result.refusals]
        if each.kind == "independent" and each.scheme == result.columns[0]
    )
    return min(met[victim] for victim in range(len(result.victims)))


def _part(result: Result) -> str:
    limits = [f"at most {result.limit} victims, rows, and models in a group"] if result.limit else []
    limits += [f"removals {result.removals}"] if result.removals != "*" else []
    return "; ".join(limits)


def _entries(group: list[tuple[str, Result]]) -> list[BoardEntry]:
    """The best first. Of the same scheme in several results the newest is shown."""
    newest: dict[tuple[str, str], BoardEntry] = {}
    for file, result in sorted(group, key=lambda named: named[1].date):
        older = older_columns(result)
        for column, part in by_scheme(result).items():
            if entry := _entry(file, result, column, part, older.get(column, "")):
                newest[column, entry.whole.expression] = entry
    found = list(newest.values())
    names = [entry.name for entry in found]
    # The same name for two settings: the file tells them apart.
    clear = [
        replace(entry, name=f"{entry.name} ({entry.run.file})") if names.count(entry.name) > 1 else entry
        for entry in found
    ]
    return sorted(clear, key=lambda entry: (entry.whole.order, entry.name))


def _entry(file: str, result: Result, column: str, part: Result, older: str) -> BoardEntry | None:
    whole = standing(part)
    if whole is None:
        return None
    return BoardEntry(
        name=column,
        scheme=_scheme(whole.expression),
        whole=whole,
        families={family: standing(of_family(part, family)) for family in families_of(part)},
        rows={row: standing(of_row(part, row)) for row in result.rows},
        run=_run(file, result),
        asked=any(cell.seconds for cell in part.cells),
        older=older,
    )


def _scheme(expression: str) -> str:
    try:
        return parse(expression).name
    except UsageError:
        return expression


def _run(file: str, result: Result) -> Run:
    machine = result.machine
    of = f"{machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB; device {machine.device}"
    packages = ", ".join(f"{package} {number}" for package, number in machine.versions.items())
    return Run(file, result.date, result.command, of, f"Python {machine.python}, {packages}")


def _attacks(results: list[Result]) -> list[Attack]:
    """Rows of copies, from the cells of any scheme; fidelity and queries from the models where a result has them."""
    copies = {
        (cell.group, cell.suspect, cell.victim): cell
        for result in results
        for cell in result.cells
        if cell.kind in ("derived", "beyond")
    }
    models = {(model.role, model.recipe): model for result in results for model in result.models}
    attacks: list[Attack] = []
    for row in results[0].rows:
        cells = [cell for (group, *_), cell in copies.items() if group == row]
        known = [model for (role, _), model in models.items() if role == row]
        faithful = [model.agreement for model in known if model.agreement is not None]
        if cells:
            attacks.append(
                Attack(
                    label=row,
                    family=cells[0].family,
                    accuracy=float(np.mean([cell.accuracy for cell in cells])),
                    fidelity=float(np.mean(faithful)) if faithful else None,
                    queries=float(np.mean([model.queries for model in known])) if known else None,
                    seconds=float(np.mean([model.seconds for model in known])) if known else None,
                    damaged=sum(cell.damaged for cell in cells),
                    count=len(cells),
                )
            )
    return attacks
