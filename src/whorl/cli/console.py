"""What every verb shares: stdout for the result, stderr for chatter, one line for an error, exit codes."""

from __future__ import annotations

import functools
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from whorl.errors import UsageError, WhorlError

__all__ = ["INTERRUPTED", "bar", "chatter", "guarded", "model_options", "out", "print_json"]

INTERRUPTED = 130

out = Console(soft_wrap=True)
chatter = Console(stderr=True, soft_wrap=True)

P = ParamSpec("P")
R = TypeVar("R")


def guarded(verb: Callable[P, R]) -> Callable[P, R]:
    """End a verb's deliberate errors in one line and its exit code; say how to go on after Ctrl-C."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except WhorlError as error:
            chatter.print(f"[bold red]error:[/] {_plain(str(error))}", highlight=False)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            command = shlex.join(["whorl", *sys.argv[1:]])
            chatter.print(f"stopped; what is finished is kept. Go on with: {_plain(command)}", highlight=False)
            sys.exit(INTERRUPTED)

    return run


def print_json(document: Any) -> None:
    """One JSON document on stdout and nothing else."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def bar(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr; the yielded function takes (what, done, total)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=chatter, disable=quiet or not chatter.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield show


def model_options(
    architecture: str | None, classes: int | None, shape: str | None, settings: list[str] | None
) -> dict[str, Any]:
    """Options of the command line as fields of ``model.toml``."""
    options: dict[str, Any] = {}
    for setting in settings or []:
        key, mark, value = setting.partition("=")
        if not mark:
            raise UsageError(f"--set takes KEY=VALUE, a field of model.toml; this is {setting!r}")
        options[key.strip()] = _value(value)
    if architecture is not None:
        options["architecture"] = architecture
    if classes is not None:
        options["classes"] = classes
    if shape is not None:
        options["input_shape"] = _value(shape if shape.startswith("[") else f"[{shape}]")
    return options


def _value(text: str) -> Any:
    """JSON where it is JSON, text where it is not."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
