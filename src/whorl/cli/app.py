"""The command ``whorl``. Verbs import what they need when they run, so that help answers at once."""

from __future__ import annotations

import io
import os
import sys

import typer

from whorl.cli import (
    align,
    audit,
    bench,
    calibrate,
    claim,
    codes,
    compare,
    demo,
    disagree,
    doctor,
    explain,
    extract,
    guard,
    inspect,
    lineage,
    listing,
    lock,
    log,
    mark,
    report,
    sift,
    twins,
    verify,
    zoo,
)
from whorl.cli.console import end_workers_on_interrupt, workers_ended
from whorl.cli.exits import INTERRUPTED, MEANINGS, state, told

__all__ = ["app", "main"]

app = typer.Typer(
    help="Was this model made from that one?",
    epilog=told(MEANINGS, "derived, related or moved"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("demo")(demo.demo)
app.command("extract")(extract.extract)
app.command("calibrate")(calibrate.calibrate)
app.command("twins")(twins.twins)
app.command("mark")(mark.mark)
app.command("verify")(verify.verify)
app.command("audit")(audit.audit)
app.command("compare")(compare.compare)
app.command("lineage")(lineage.lineage)
app.command("explain")(explain.explain)
app.command("disagree")(disagree.disagree)
app.command("align")(align.align)
app.command("inspect")(inspect.inspect)
app.command("sift")(sift.sift)
app.command("schemes")(listing.schemes)
app.command("marks")(listing.marks)
app.command("removals")(listing.removals)
app.command("inspections")(listing.inspections)
app.add_typer(claim.app, name="claim")
app.add_typer(codes.app, name="codes")
app.command("trace")(codes.trace)
app.add_typer(zoo.app, name="zoo")
app.add_typer(bench.app, name="bench")
app.add_typer(log.app, name="log")
app.command("guard")(guard.guard)
app.command("lock")(lock.lock)
app.command("unlock")(lock.unlock)
app.command("report")(report.report)
app.command("doctor")(doctor.doctor)
state(app)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("whorl"))
        raise typer.Exit


def main() -> None:
    """Entry point of the console script."""
    end_workers_on_interrupt()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal of the C locale has no signs beyond ASCII
    try:
        app()
    except SystemExit as stop:
        if stop.code == INTERRUPTED and not workers_ended():
            sys.stdout.flush()
            os._exit(INTERRUPTED)  # a normal exit would wait for them for ever
        raise
