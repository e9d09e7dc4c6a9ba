"""``whorl bench``: run a suite, show its table, export its cells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from whorl.cli import board, completion
from whorl.cli.console import bar, checked_device, guarded, line, out, print_json, say
from whorl.cli.options import Cache, Cluster, Device, Fresh, Jobs, Json, Quiet, Wide, file_to_write
from whorl.cli.table import show as show_table

__all__ = ["app"]

app = typer.Typer(help="Benchmarks: suites of victims, copies and independent models.", no_args_is_help=True)


@app.command("list")
@guarded
def listing(as_json: Json = False) -> None:
    """List the suites."""
    from whorl.suites.suite import SUITES

    suites = [{"name": name, "about": SUITES[name]().about} for name in SUITES]
    if as_json:
        print_json(suites)
        return
    for suite in suites:
        line(f"{suite['name']}  {suite['about']}")


@app.command("run")
@guarded
def run(
    suite: Annotated[
        str, typer.Argument(help="Name of a suite, as in ipguard/textures.", autocompletion=completion.suites)
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the result as JSON.", callback=file_to_write)
    ] = None,
    schemes: Annotated[
        str,
        typer.Option(
            help="Columns to run, with wildcards, as in 'ipguard,a*'.",
            autocompletion=completion.masks_of_schemes,
        ),
    ] = "*",
    removals: Annotated[str, typer.Option(help="Rows to run, with wildcards, as in 'extract,prune*'.")] = "*",
    lineup: Annotated[
        bool,
        typer.Option("--lineup", help="Also line victims up with twins: the suite's null, or new ones of the recipe."),
    ] = False,
    by: Annotated[
        str,
        typer.Option(
            help="Also line victims up with twins by these schemes, as in 'akh,sac*': each candidate has a fingerprint "
            "of its own.",
            autocompletion=completion.masks_of_schemes,
        ),
    ] = "",
    budgets: Annotated[str, typer.Option(help="Numbers of queries, as in 50,100; the suite's own by default.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many victims, rows and models per group; 0 for all.")] = 0,
    jobs: Jobs = 0,
    cluster: Cluster = "",
    device: Device = "cpu",
    cache: Cache = None,
    fresh: Fresh = False,
    wide: Wide = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a suite, or what is left of it, and print its table.

    Example: whorl bench run ipguard/textures --limit 2 -o textures.json
    """
    from whorl.bench.result import write_result
    from whorl.bench.runner import run as run_suite
    from whorl.suites.suite import SUITES
    from whorl.zoo.cache import default_cache

    checked_device(device)
    chosen = SUITES[suite]()
    if limit:
        chosen = chosen.limited(limit)
    if budgets:
        chosen = chosen.asking(_numbers(budgets))
    with bar(quiet) as show:
        folder = cache or default_cache()
        result = run_suite(
            chosen,
            folder=folder,
            schemes=schemes,
            removals=removals,
            lineup=lineup,
            by=by,
            workers=cluster or jobs,
            device=device,
            command=_command(
                "run", suite, schemes=schemes, removals=removals, lineup=lineup, by=by, budgets=budgets, limit=limit
            ),
            fresh=fresh,
            progress=show,
        )
    if output is not None:
        write_result(result, output)
        if not quiet:
            say(f"result: {output}  page: whorl report {output}")
    _show(result, as_json, wide, quiet)


@app.command("grid")
@guarded
def grid(
    suite: Annotated[
        str, typer.Argument(help="Name of a suite, as in sacbench/tiny.", autocompletion=completion.suites)
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the figures as JSON.", callback=file_to_write)
    ] = None,
    cells: Annotated[
        Path | None, typer.Option(help="Also write every similarity, as .parquet.", callback=file_to_write)
    ] = None,
    schemes: Annotated[
        str, typer.Option(help="Points of the grid, with wildcards, as in 'negative+*,*+hamming'.")
    ] = "*",
    removals: Annotated[str, typer.Option(help="Rows to run, with wildcards, as in 'extract,prune*'.")] = "*",
    budgets: Annotated[str, typer.Option(help="Numbers of inputs to ask.")] = "50,100,200",
    seeds: Annotated[int, typer.Option(min=1, help="How often queries are drawn.")] = 3,
    limit: Annotated[int, typer.Option(help="At most so many victims, rows and models per group; 0 for all.")] = 0,
    jobs: Jobs = 0,
    cluster: Cluster = "",
    device: Device = "cpu",
    cache: Cache = None,
    fresh: Fresh = False,
    wide: Wide = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run every combination of queries, representation and similarity over a suite, and print the best.

    Example: whorl bench grid sacbench/tiny --schemes '*negative*' --budgets 50,100 -o grid.json
    """
    import time

    from whorl.bench.grid import plan, run_grid
    from whorl.bench.grid_result import figures, write_grid, write_similarities
    from whorl.suites.suite import SUITES
    from whorl.zoo.cache import default_cache

    checked_device(device)
    chosen = SUITES[suite]()
    chosen = chosen.limited(limit) if limit else chosen
    chosen = chosen.attacked(removals) if removals != "*" else chosen
    points = plan(chosen, schemes=schemes, budgets=_numbers(budgets), seeds=seeds)
    started = time.perf_counter()
    with bar(quiet) as show:
        folder = cache or default_cache()
        found = run_grid(points, folder=folder, workers=cluster or jobs, device=device, fresh=fresh, progress=show)
    wall = time.perf_counter() - started
    command = _command("grid", suite, schemes=schemes, removals=removals, budgets=budgets, seeds=seeds, limit=limit)
    result = figures(points, found, command=command, wall_seconds=wall, device=device)
    if output is not None:
        write_grid(result, output)
    if cells is not None:
        write_similarities(points, found, cells)
    _show_grid(result, as_json, wide, quiet)


@app.command("quality")
@guarded
def quality(
    suite: Annotated[str, typer.Argument(help="Name of a suite, as in hard/tiny.", autocompletion=completion.suites)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write every pair as JSON.", callback=file_to_write)
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many victims, rows and models per group; 0 for all.")] = 0,
    jobs: Jobs = 0,
    cluster: Cluster = "",
    device: Device = "cpu",
    cache: Cache = None,
    fresh: Fresh = False,
    wide: Wide = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show how far copies and independent models overlap before any scheme: how hard a suite is."""
    import dataclasses

    from whorl.bench.quality import measure_quality
    from whorl.cli.standings import quality_table
    from whorl.storage import write_json
    from whorl.suites.suite import SUITES
    from whorl.zoo.cache import default_cache

    checked_device(device)
    chosen = SUITES[suite]()
    chosen = chosen.limited(limit) if limit else chosen
    with bar(quiet) as show:
        folder = cache or default_cache()
        found = measure_quality(
            chosen, folder=folder, workers=cluster or jobs, device=device, fresh=fresh, progress=show
        )
    document = dataclasses.asdict(found)
    if output is not None:
        write_json(output, document)
    if as_json:
        print_json(document)
        return
    show_table(quality_table(found), wide=wide, quiet=quiet)


@app.command("show")
@guarded
def show(
    result: Annotated[Path, typer.Argument(help="A result written by whorl bench run.")],
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Print the table of a result, and which of its figures older code made."""
    from whorl.bench.grid_result import read_grid
    from whorl.bench.result import read_result
    from whorl.storage import read_json

    document = read_json(result)
    if isinstance(document, dict) and document.get("kind") == "grid":
        _show_grid(read_grid(result), as_json, wide)
    else:
        _show(read_result(result), as_json, wide)


for verb in (board.site, board.validate, board.diff, board.export):
    app.command()(verb)


def _command(verb: str, suite: str, **options: object) -> str:
    """What a reader types to run the same."""
    import shlex

    words = ["whorl", "bench", verb, suite]
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value not in ("*", "", 0):
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def _show_grid(result: Any, as_json: bool, wide: bool, quiet: bool = False) -> None:
    from whorl.bench.age import note, older_points
    from whorl.cli.standings import grid_table

    older = older_points(result)
    if as_json:
        print_json(result.model_dump() | {"older": older})
        return
    show_table(*grid_table(result), wide=wide, quiet=quiet)
    _tell(note(older, result.command or f"whorl bench grid {result.suite}"))


def _tell(note: str) -> None:
    if note:
        out.print(note, style="yellow", markup=False, highlight=False)


def _numbers(text: str) -> tuple[int, ...]:
    from whorl.errors import UsageError

    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"budgets are numbers of queries, as in 50,100, not {text!r}")
    return tuple(int(word) for word in words)


def _show(result: Any, as_json: bool, wide: bool, quiet: bool = False) -> None:
    import dataclasses

    from whorl.bench.age import note, older_columns

    older = older_columns(result)
    if result.layout == "marks":
        from whorl.bench.mark_table import mark_rows
        from whorl.cli.mark_tables import mark_tables

        marks = mark_rows(result)
        document: Any = [dataclasses.asdict(row) | {"older": older.get(row.name, "")} for row in marks]
        tables = mark_tables(result, marks)
    elif result.layout == "field":
        from whorl.bench.standings import standings
        from whorl.cli.standings import field_tables

        rows = standings(result)
        document = [dataclasses.asdict(row) | {"older": older.get(row.name, "")} for row in rows]
        tables = field_tables(result, rows)
    else:
        from whorl.bench.summary import summarise
        from whorl.cli.suite_table import suite_table

        summary = summarise(result)
        document = dataclasses.asdict(summary) | {"older": older}
        tables = suite_table(result, summary)
    if as_json:
        print_json(document)
        return
    show_table(*tables, wide=wide, quiet=quiet)
    _tell(note(older, result.command or f"whorl bench run {result.suite}"))
