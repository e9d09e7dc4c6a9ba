"""``whorl bench site``, ``validate``, ``diff`` and ``export``: what is done with result files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whorl.cli.console import guarded, line, out, print_json, say
from whorl.cli.options import Json, Wide, file_to_write, folder_to_write
from whorl.cli.table import Column, Table
from whorl.cli.table import show as show_table

if TYPE_CHECKING:
    from whorl.bench.difference import Comparison, Difference
    from whorl.bench.result import Result

__all__ = ["diff", "export", "site", "validate"]

COMMITTED = Path("benchmarks/results")
MET = 3


@guarded
def site(
    results: Annotated[
        list[Path] | None, typer.Argument(help="Results written by whorl bench run. [benchmarks/results/*.json]")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write the pages to.", callback=folder_to_write)
    ] = Path("site"),
) -> None:
    """Build the leaderboard from results: a folder of pages that need no server.

    Example: whorl bench site mine.json benchmarks/results/field-textures.json -o site
    """
    from whorl.report.leaderboard import write_site

    named = _named(results) if results else _committed()
    index, *pages = write_site(named, output)
    say(f"{len(pages) + 1} pages of {len(named)} results")
    line(str(index))


@guarded
def validate(
    result: Annotated[Path, typer.Argument(help="A result written by whorl bench run.")], as_json: Json = False
) -> None:
    """Check a result before it is shown: every problem is one line, and any makes the exit code 1.

    Figures that older code made are named as well and are no problem: they were right of that code.

    Example: whorl bench validate mine.json
    """
    from whorl.bench.age import note, older_columns
    from whorl.bench.submission import read_submission

    read, problems = read_submission(result)
    suite = read.suite if read else ""
    older = older_columns(read) if read else {}
    if as_json:
        print_json({"file": result.name, "suite": suite, "problems": problems, "older": older})
    else:
        for problem in problems:
            line(problem)
        if read and not problems:
            line(f"sound: {suite}, {len(read.columns)} schemes, {len(read.cells) + len(read.refusals)} cells")
        if read and older:
            line(note(older, read.command or f"whorl bench run {suite}"))
    if problems:
        sys.exit(1)


@guarded
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A result written by whorl bench run.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    every: Annotated[bool, typer.Option("--all", help="Show the figures that did not move as well.")] = False,
    fail_on: Annotated[str, typer.Option(help="moved: exit with 3 if any figure moved.")] = "",
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Show the figures that moved from A to B by more than chance, and what only one of them has.

    Figures are power, AUC and TPR, all of them also by family of removal, and the share of independent models accused.
    Power is compared where both results hold verdicts. Where both have at least two victims in common, a figure moved
    if the 95 % interval of its difference, over those victims in pairs, leaves out 0; otherwise if the two 95 %
    intervals do not meet. Of figures that did not change at most 5 % are told to have moved: among many, some are.

    Example: whorl bench diff before.json after.json --fail-on moved
    """
    from whorl.bench.difference import compare
    from whorl.bench.result import read_result
    from whorl.errors import UsageError

    if fail_on not in ("", "moved"):
        raise UsageError(f"--fail-on takes moved, not {fail_on!r}")
    found = compare(read_result(first), read_result(second))
    if as_json:
        print_json(_document(found))
    else:
        _show(found, every, wide)
    if fail_on and found.moved:
        sys.exit(MET)


@guarded
def export(
    result: Annotated[Path, typer.Argument(help="A result written by whorl bench run.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .csv, .parquet or .json file.", callback=file_to_write)
    ],
    models: Annotated[bool, typer.Option("--models", help="The models instead of the cells.")] = False,
) -> None:
    """Write every cell, or every model, of a result as a table.

    Example: whorl bench export mine.json -o cells.csv
    """
    from whorl.bench.export import write_table
    from whorl.bench.result import read_result

    write_table(read_result(result), output, models=models)
    line(str(output))


def _named(paths: list[Path]) -> dict[str, Result]:
    from whorl.bench.result import read_result
    from whorl.errors import UsageError

    results = {path.name: read_result(path) for path in paths}
    if len(results) < len(paths):
        raise UsageError("two results have the same file name, by which pages tell them apart; rename one")
    return results


def _committed() -> dict[str, Result]:
    """The results in the clone that the reader stands in; files of other kinds beside them are left alone."""
    from whorl.bench.result import read_result
    from whorl.errors import UsageError
    from whorl.storage import read_json

    results: dict[str, Result] = {}
    for path in sorted(COMMITTED.glob("*.json")):
        document: Any = read_json(path)
        if isinstance(document, dict) and {"suite", "cells", "extractions"} <= document.keys():
            results[path.name] = read_result(path)
    if not results:
        raise UsageError(f"no results in {COMMITTED}. Name some: whorl bench site RESULT.json -o site")
    return results


def _document(found: Comparison) -> dict[str, Any]:
    import dataclasses

    figures = [dataclasses.asdict(each) | {"change": each.change} for each in found.figures]
    return {
        "figures": figures,
        "by_chance": found.by_chance,
        "only_a": list(found.only_first),
        "only_b": list(found.only_second),
    }


def _show(found: Comparison, every: bool, wide: bool) -> None:
    shown = found.figures if every else found.moved
    chance = f"; if none had, up to {found.by_chance:.1f} would be told to" if found.moved else ""
    out.print(f"{len(found.moved)} of {len(found.figures)} figures moved{chance}", highlight=False)
    if shown:
        figures = [Column("A", right=True, rank=1), Column("B", right=True, rank=1), Column("B - A", right=True)]
        table = Table([Column("scheme"), Column("figure"), *figures, Column("by", rank=2), Column("")])
        for each in shown:
            table.add(*_line(each))
        show_table(table, wide=wide)
    for letter, names in (("A", found.only_first), ("B", found.only_second)):
        for name in names:
            out.print(f"only in {letter}: {name}", markup=False, highlight=False)


def _line(each: Difference) -> tuple[str, ...]:
    figure = f"{each.figure}, {each.family}" if each.family else each.figure
    interval = f" [{each.interval.low:+.3f}, {each.interval.high:+.3f}]" if each.interval else ""
    rule = {
        "paired": f"{each.victims} victims in pairs",
        "apart": "two intervals",
        "value": "no interval",
    }[each.rule]
    change = f"{each.change:+.3f}{interval}"
    return (each.scheme, figure, f"{each.first:.3f}", f"{each.second:.3f}", change, rule, "moved" if each.moved else "")
