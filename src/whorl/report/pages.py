"""The two pages: a benchmark, and one verdict. Each is one file of HTML that loads nothing and runs nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from whorl.bench.result import Result
from whorl.bench.standings import standings
from whorl.errors import UsageError
from whorl.fingerprints.second import identity
from whorl.metrics import Interval
from whorl.printable import counted, printable
from whorl.report import words
from whorl.report.figures import aruc_by_k, curve_figure, match_figure
from whorl.report.gaps import untested
from whorl.report.lineup import Lineup, figures_of, lineup_of, race_figure, totals_figure
from whorl.report.pictures import Gallery, gallery, read_gallery
from whorl.report.strips import calibration_of, interval_bar, suspect_figure, threshold_of
from whorl.report.study import Study
from whorl.report.tables import paper_table
from whorl.types import Combination, Fingerprint, Queries, Verdict

__all__ = ["bench_page", "combination_page", "render", "verdict_page"]

WEAK: Final = 0.05  # a larger alpha is an error that nobody would stand up for

SAYINGS: Final = {
    "derived": "The suspect answers like the fingerprinted model, more than an independent model would by chance.",
    "unrelated": "The suspect answers like an independent model; a copy made in one of the ways that this test is "
    "known to catch would not.",
    "inconclusive": "The evidence carries no decision, in either direction.",
}

OF_A_LINEUP: Final = {
    "derived": "Your model and its twins differ by chance alone, and the suspect resembles yours more.",
    "unrelated": "Twins of your model, other runs of its recipe, resemble the suspect as much; a copy made in one of "
    "the ways that this test is known to catch would name your model.",
    "inconclusive": SAYINGS["inconclusive"],
}

OF_SUSPECTS: Final = {
    "derived": "At least one of the suspects answers like the fingerprinted model, more than one that was made without "
    "it would by chance.",
    "unrelated": "None of the suspects answers like the fingerprinted model; a copy made in one of the ways that this "
    "test is known to catch would.",
    "inconclusive": "The evidence carries no decision on all of the suspects, in either direction.",
}


def bench_page(result: Result, *, fingerprints: Path | None = None) -> str:
    """The page of a benchmark: the paper's table, curves, matches of every suspect, pictures, and what is untested.

    Parameters:
        fingerprints: folder of the files that `Extraction.pictures` names; without it there are no pictures.

    Raises:
        InvalidFile: a fingerprint file is damaged.
    """
    if result.layout != "paper":
        return _field_page(result)
    study = Study.of(result)
    columns = study.summary.columns
    best = study.summary.best_k
    chosen = study.column()
    matching = [column for column in columns if not column.lined_up]
    matches = [match_figure(study, column, key=f"match-{i}") for i, column in enumerate(matching)]
    curves = [curve_figure(study, column, key=f"curve-{i}") for i, column in enumerate(matching)]
    firsts = [next(iter(study.extractions(column)), None) for column in columns]
    galleries = [read_gallery(fingerprints, first.pictures) if first else None for first in firsts]
    return render(
        "bench.html.j2",
        result=result,
        columns=columns,
        chosen=chosen,
        best=best,
        sections=paper_table(study),
        sweep=sorted(study.summary.sweep, key=lambda point: point.k),
        sweep_figure=aruc_by_k(study.summary.sweep, best, key="sweep") if best is not None else "",
        matches=list(zip(matching, matches, strict=True)),
        curves=list(zip(matching, curves, strict=True)),
        galleries=[(column, shown) for column, shown in zip(columns, galleries, strict=True) if shown],
        beyond=study.rows(beyond=True),
        untested=untested(study),
    )


def _field_page(result: Result) -> str:
    rows = standings(result)
    leading = [row.leading for row in rows]
    bars = [interval_bar(of.value, *_ends(of.interval), key=f"leading-{i}") for i, of in enumerate(leading)]
    families = list(dict.fromkeys(family for row in rows for family in row.families))
    groups = list(dict.fromkeys(group for row in rows for group in row.accused_by_group))
    own = any(row.own_auc for row in rows)
    return render("field.html.j2", result=result, rows=rows, bars=bars, families=families, groups=groups, own=own)


def _ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def verdict_page(verdict: Verdict, *, fingerprint: Fingerprint | None = None, pictures: bool = False) -> str:
    """The page of one verdict: decision, evidence, power, what it does not show, how to reproduce it.

    Parameters:
        fingerprint: the fingerprint that was verified; adds the values of the null and of known copies.
        pictures: draw its first queries too, which are secret.

    Raises:
        UsageError: the fingerprint is not the one of the verdict.
        ValidationError: what the verdict says of its lineup is unsound.
    """
    lineup = lineup_of(verdict.lineup)
    if lineup and fingerprint and (fingerprint.candidates is None or identity(fingerprint) != verdict.fingerprint):
        raise UsageError("this fingerprint holds another lineup than the verdict's; give the file that was verified")
    calibration = None if lineup else calibration_of(verdict, fingerprint)
    threshold = threshold_of(verdict, calibration)
    power = [
        (removal, of, interval_bar(of["power"], of["low"], of["high"], key=f"power-{i}"))
        for i, (removal, of) in enumerate(verdict.power.items())
    ]
    return render(
        "verdict.html.j2",
        verdict=verdict,
        saying=(OF_A_LINEUP if lineup else SAYINGS)[verdict.decision],
        weak=verdict.decision == "derived" and verdict.alpha > WEAK,
        threshold=threshold,
        figure="" if lineup else suspect_figure(verdict, calibration, threshold),
        copies=bool(calibration and calibration.derived),
        power=power,
        pictures=_asked(fingerprint, lineup) if fingerprint and pictures else None,
        fingerprint=fingerprint,
        lineup=lineup,
        lined_up=totals_figure(lineup) if lineup else "",
        raced=race_figure(lineup) if lineup else None,
        equals=figures_of(lineup) if lineup else [],
    )


def _asked(fingerprint: Fingerprint, lineup: Lineup | None) -> Gallery:
    """The first of what the suspect was asked."""
    questions = fingerprint.candidates
    return gallery(Queries(questions.inputs) if lineup and questions else fingerprint.queries)


def combination_page(combination: Combination) -> str:
    """The page of several tests with one error rate: the decision, each test, and what to read with it."""
    several = combination.over == "suspects"
    return render(
        "combination.html.j2",
        combination=combination,
        saying=(OF_SUSPECTS if several else SAYINGS)[combination.decision],
        tests=len(combination.verdicts) + len(combination.refused),
        lineups=[lineup_of(verdict.lineup) for verdict in combination.verdicts],
    )


def render(template: str, **values: object) -> str:
    """A page from a template of this folder; every value is escaped."""
    return _environment().get_template(template).render(**values)


def _printable(value: object) -> object:
    """What a template shows, without marks of direction and the like, by which a name could rewrite its line."""
    return type(value)(printable(value)) if isinstance(value, str) else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("whorl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = (
        "around",
        "granted",
        "interval",
        "listed",
        "ordinal",
        "p_value",
        "percent",
        "plain",
        "rate",
        "seconds",
        "share",
    )
    environment.filters.update({name: getattr(words, name) for name in (*names, "slug")} | {"count": counted})
    return environment
