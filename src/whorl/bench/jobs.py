"""The fingerprints of a run: which there are to make, by which code, and under which key each is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whorl.bench import lineups, marks, work
from whorl.bench.lineups import is_lineup, judge_lineups, make_lineup, scheme_in
from whorl.bench.marks import judge_marks, make_mark
from whorl.bench.work import extract, judge
from whorl.data import SOURCES
from whorl.engine.store import cell_key
from whorl.revisions import digest_of
from whorl.schemes import SCHEMES
from whorl.suites.suite import Suite
from whorl.zoo.code import code_of, code_of_model, content_key
from whorl.zoo.recipe import Recipe

__all__ = ["Job", "Judge", "code_of_all", "jobs_of", "learns"]

Judge = Callable[[str, tuple[str, ...], float, str, str], dict[str, dict[str, Any]]]
"""(recipe of a suspect, paths of fingerprints, alpha, folder, device) to a cell's fields for each path."""


@dataclass(frozen=True)
class Job:
    """One fingerprint to make: a scheme on a victim, or what checks a mark in it."""

    victim: int
    column: str
    expression: str
    path: str
    code: frozenset[str]
    """What scheme and verdict are made by, as `whorl.revisions` takes it."""
    marked: bool = False

    @property
    def make(self) -> Callable[..., None]:
        """What a worker makes it by."""
        return make_mark if self.marked else make_lineup if is_lineup(self.expression) else extract

    @property
    def judge(self) -> Judge:
        """What a worker asks a suspect by."""
        return judge_marks if self.marked else judge_lineups if is_lineup(self.expression) else judge


def learns(expression: str) -> bool:
    """Whether a column learns from shadow models."""
    return not is_lineup(expression) and SCHEMES.make(expression).needs_pool


def jobs_of(suite: Suite, columns: list[str], folder: Path) -> list[Job]:
    """Every fingerprint that these columns need."""
    wanted = [(column, suite.schemes[column]) for column in columns]
    if suite.chosen in columns:
        wanted += [(f"{suite.chosen} k={k}", expression) for k, expression in suite.sweep.items()]
    return [_job(suite, index, *each, folder) for index in range(len(suite.victims)) for each in wanted]


def _job(suite: Suite, index: int, column: str, expression: str, folder: Path) -> Job:
    victim, marked, lined_up = suite.victims[index], suite.layout == "marks", is_lineup(expression)
    bound = lineups.expression_for(expression, victim) if lined_up else str(SCHEMES.bind(expression))
    made_by = (marks if marked else lineups if lined_up else work).__name__
    scheme = scheme_in(bound) if lined_up else bound
    code = frozenset({made_by}) | (code_of(SCHEMES, scheme) if scheme else frozenset())
    code |= code_of(SOURCES, suite.data_of(index))
    calibrating = [victim, *suite.null, *(victim.then(row.removal) for row in suite.known)]
    beside: dict[str, Any] = {}
    if marked:
        calibrating[0] = suite.marked(index, expression, suite.budget_of(column))
        strangers = [recipe for group in suite.independents.values() for recipe in group]
        beside |= {"marked": calibrating[0].digest, "strangers": [recipe.digest for recipe in strangers]}
        calibrating += strangers
    if learns(bound):
        pool = suite.shadows.recipes(victim)
        beside["shadows"] = [recipe.digest for recipe in pool]
        calibrating += pool
    if lined_up:
        twins = suite.twins(index)
        beside |= {"twins": [recipe.digest for recipe in twins], "alpha": suite.alpha}
        calibrating += twins
    key = cell_key(
        revision=digest_of(code | code_of_all(calibrating)),
        victim=victim.digest,
        scheme=bound,
        data=str(SOURCES.bind(suite.data_of(index))),
        budget=suite.budget_of(column),
        null=[recipe.digest for recipe in suite.null],
        known=[row.removal for row in suite.known],
        **beside,
        **content_key(calibrating, suite.data_of(index)),
    )
    return Job(index, column, bound, str(folder / "fingerprints" / f"{key}.safetensors"), code, marked)


def code_of_all(recipes: Iterable[Recipe]) -> frozenset[str]:
    """Targets of all that make these models."""
    return frozenset[str]().union(*map(code_of_model, recipes))
