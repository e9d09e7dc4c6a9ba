"""Marks as columns: what checks each, whom draws accuse that know nothing of it, and what forged ones are worth."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from whorl.bench.forgeries import forged
from whorl.bench.mark_figures import DRAWS, LEVEL, MarkFigures
from whorl.bench.work import ask_each, cell_of, costs_path, with_null
from whorl.detection.exact import log_binomial_tail
from whorl.fingerprints.files import write_fingerprint
from whorl.marks.base import Watermark
from whorl.marks.frontier import Frontier, paper_rule
from whorl.marks.making import drawn_by
from whorl.oracles.base import Oracle
from whorl.schemes import MARKS, SCHEMES
from whorl.schemes.opening import read_fingerprint
from whorl.schemes.session import Session
from whorl.storage import write_json
from whorl.suites.suite import Suite
from whorl.types import Fingerprint, Rule
from whorl.zoo.cache import Zoo
from whorl.zoo.marked import checks_of
from whorl.zoo.recipe import parse_recipe

__all__ = ["is_drawn", "judge_marks", "make_mark"]

NEVER: Final = 1e-300  # a level that no evidence reaches, so that all of it is asked and counted


def is_drawn(expression: str) -> bool:
    """Whether an expression names a mark whose labels or bits are drawn, so that the design is its null."""
    name = expression.partition("(")[0].strip()
    return name in MARKS and getattr(MARKS[name], "null", "") == "design"


def make_mark(suite: Suite, victim: int, expression: str, count: int, path: str, folder: str, device: str) -> None:
    """Write what checks the mark of one victim, and beside it what the mark says of strangers."""
    zoo, recipe = Zoo(Path(folder), device=device), suite.marked(victim, expression, count)
    mark = MARKS.make(expression)
    assert isinstance(mark, Watermark)
    fingerprint = checks_of(zoo, recipe)
    groups = {group: [zoo.oracle(each) for each in models] for group, models in suite.independents.items()}
    asked = {group: len(models) for group, models in groups.items()}
    answers = {group: [_answers(mark, fingerprint, each) for each in models] for group, models in groups.items()}
    if mark.null == "design":
        accused = {group: _accused(mark, fingerprint, given) for group, given in answers.items()}
        suspect = next(iter(groups.values()))[0]
        figures = MarkFigures(
            null=mark.null,
            asked=asked,
            accused=accused,
            level=_level(len(fingerprint.queries), mark.choices(fingerprint.queries, fingerprint.classes)),
            forged=forged(mark, fingerprint, suspect),
        )
    else:
        accepted = {group: _accepted(fingerprint, given) for group, given in answers.items()}
        figures = MarkFigures(null=mark.null, asked=asked, accepted=accepted if isinstance(mark, Frontier) else {})
        fingerprint = with_null(fingerprint, suite, recipe, suite.data_of(victim), zoo)
    write_json(costs_path(path), {"mark": figures.model_dump()})
    write_fingerprint(fingerprint, path)


def judge_marks(
    recipe: str, paths: tuple[str, ...], alpha: float, folder: str, device: str
) -> dict[str, dict[str, Any]]:
    """Ask one suspect for many marks: path to the fields of a cell, or to the reason of a refusal.

    The decision and what it needed are those at ``alpha``; the p-value is that of everything that was asked.
    """

    def ask(path: str, suspect: Oracle) -> dict[str, Any]:
        fingerprint = read_fingerprint(path)
        scheme = SCHEMES.make(fingerprint.scheme)
        started = time.perf_counter()
        evidence, verdict = Session(scheme, fingerprint, suspect, Rule(alpha=alpha)).measure()
        cell = cell_of(verdict, evidence.similarity, time.perf_counter() - started)
        if is_drawn(fingerprint.scheme):
            whole = Session(scheme, fingerprint, suspect, Rule(alpha=NEVER)).measure()[1]
            cell["p_value"] = min(cell["p_value"], whole.p_value)
        return cell

    return ask_each(Zoo(Path(folder), device=device).oracle(parse_recipe(recipe)), paths, ask)


def _answers(mark: Watermark, fingerprint: Fingerprint, oracle: Oracle) -> Tensor:
    return mark.represent(oracle, fingerprint.queries).values


def _accused(mark: Watermark, fingerprint: Fingerprint, answers: list[Tensor]) -> list[int]:
    """By draw, how many of these answers match the drawn with p <= `LEVEL`."""
    queries = fingerprint.queries
    least = _least(len(queries), mark.choices(queries, fingerprint.classes))
    found: list[int] = []
    for number in range(DRAWS):
        drawn = drawn_by(mark, fingerprint, number.to_bytes(32, "big"))
        wanted = mark.reference(queries, drawn).values
        found.append(sum(int((each == wanted).sum()) >= least for each in answers))
    return found


def _accepted(fingerprint: Fingerprint, answers: list[Tensor]) -> int:
    wanted, count = fingerprint.reference.values, len(fingerprint.queries)
    return sum(paper_rule(int((each != wanted).sum()), count) for each in answers)


def _least(count: int, choices: int) -> int:
    """The fewest matches of ``count`` with p <= `LEVEL`."""
    return next(each for each in range(count + 2) if log_binomial_tail(each, count, 1 / choices) <= math.log(LEVEL))


def _level(count: int, choices: int) -> float:
    """The chance that a stranger has p <= `LEVEL`."""
    return math.exp(log_binomial_tail(_least(count, choices), count, 1 / choices))
