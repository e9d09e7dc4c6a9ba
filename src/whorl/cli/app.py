"""The command ``whorl``. Verbs import what they need when they run, so that help answers at once."""

from __future__ import annotations

import atexit
import gc
import itertools
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

import typer
from typer.core import TyperGroup

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
from whorl.cli.console import complain, end_workers_on_interrupt, workers_ended
from whorl.cli.exits import INTERRUPTED, MEANINGS, state, told
from whorl.cli.paths import explained
from whorl.cli.streams import STDOUT, open_streams
from whorl.errors import UsageError, WhorlError

__all__ = ["app", "main"]


IN_PLACE: Final = ("calibrate", "twins")  # verbs that add to the fingerprint which they read, their first argument
OUTPUTS: Final = ("-o", "--output", "--report")


class Verbs(TyperGroup):
    """All verbs. What was typed wrongly ends in one line, as any other error does, and not in typer's box of five."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run what was typed; ends the process unless ``standalone_mode`` is false."""
        words = list(sys.argv[1:] if args is None else args)
        _refuse_nowhere()
        _refuse_empty(words)
        _refuse_overwriting(words)
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except typer.Abort:
            sys.exit(1)
        except Exception as error:
            # Click's errors are told by what they have: typer brings a click of its own in some versions.
            said, context = getattr(error, "format_message", None), getattr(error, "ctx", None)
            if said is None:
                raise
            if type(error).__name__ != "NoArgsIsHelpError":  # whose help has been printed
                line = " ".join(said().replace("Value error, ", "").split()).removesuffix(".")
                complain(f"{line}. Type {context.command_path if context else 'whorl'} --help")
            sys.exit(getattr(error, "exit_code", 2))
        sys.exit(code if isinstance(code, int) else 0)  # of what ends early, as --version does


def _refuse_nowhere() -> None:
    """End where the working folder was deleted: no path is to be told, and libraries of torch end the process."""
    try:
        os.getcwd()
    except OSError:
        complain("the folder that you stand in is gone; change to another one (cd), and type the same again")
        sys.exit(UsageError.exit_code)


def _refuse_empty(words: Sequence[str]) -> None:
    """End where a word is empty, which as a path would be the folder that one stands in."""
    if "" in words:
        place = list(words).index("")
        option = words[place - 1] if place and words[place - 1].startswith("-") else ""
        what = f"the value of {option}" if option else f"the argument after {words[place - 1]}" if place else "the verb"
        complain(f"{what} is empty, as a variable of the shell that is not set; give it, or leave it out")
        sys.exit(UsageError.exit_code)


def _refuse_overwriting(words: Sequence[str]) -> None:
    """End where a file that is read would be written over, which would lose a model that somebody owns or accuses."""
    added = 1 if words[:1] and words[0] in IN_PLACE else -1
    given = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    for place, (option, target) in enumerate(itertools.pairwise(given), 1):
        others = (each for other, each in enumerate(given) if other not in (place, added))
        if option in OUTPUTS and any(_same_file(each, target) for each in others):
            complain(f"{target} would be read and written over; give another file to {option}")
            sys.exit(UsageError.exit_code)


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.isfile(one) and os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


app = typer.Typer(
    cls=Verbs,
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
    atexit.register(gc.freeze)  # what imports made is not searched for cycles once more, which takes half a second
    open_streams()
    code = _run()
    # The verb has ended and has its code. What Python does until it ends too would turn Ctrl-C into a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if code == INTERRUPTED:
        # Not as Python ends: it would wait for ever for workers that don't, and it kills itself, whoever caught the
        # KeyboardInterrupt, where that left an exec of text, by which dataclasses are made (CPython's pythonrun.c).
        if workers_ended():
            atexit._run_exitfuncs()
        os._exit(INTERRUPTED)
    sys.exit(code)


def _run() -> int:
    """What was typed, to the last byte of its result. Returns the exit code."""
    code: object = 0
    try:
        try:
            app()
        except SystemExit as stop:
            code = stop.code
        sys.stdout.flush()
    except KeyboardInterrupt:  # outside of the verb, which says how to go on
        return INTERRUPTED
    except OSError as error:
        if error.filename != STDOUT:
            raise
        complain(explained(error))
        return WhorlError.exit_code
    return code if isinstance(code, int) else 0
