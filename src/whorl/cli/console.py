"""What every verb shares: stdout for the result, stderr for chatter, one line for an error, exit codes."""

from __future__ import annotations

import functools
import json
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.markup import escape
from rich.segment import Segment

from whorl.cli.exits import INTERRUPTED
from whorl.cli.paths import explained
from whorl.errors import Undescribed, UsageError, WhorlError
from whorl.printable import printable

if TYPE_CHECKING:
    from whorl.types import Grants

__all__ = [
    "Pace",
    "bar",
    "chatter",
    "checked_device",
    "complain",
    "counter",
    "end_workers_on_interrupt",
    "foreign",
    "grants_of",
    "guarded",
    "line",
    "model_options",
    "out",
    "print_json",
    "say",
    "typed",
    "workers_ended",
]

FIRST, EVERY, TICK = 10.0, 30.0, 1.0  # seconds to the first line of progress, between lines, and between looks
OPTIONS = {"architecture": "--architecture", "classes": "--classes", "input_shape": "--shape"}
SECRETS = ("--victim-seed",)  # options whose values are shown nowhere
FIELDS = ("output", "access", "class_names", "mean", "std", "range", "layout", "kind", "key_env", "url")
KEYWORD = re.compile(
    rf"(?<![\w.(-])(?P<key>{'|'.join((*OPTIONS, *FIELDS))})=(?P<value>'[^']*'|\([a-z, ]*\))?(?![\w\[])"
)
IN_PYTHON = re.compile(
    r" \((?:in Python [^()]*|trust_code=True)\)"
    r"|(?<=give )\w+=\w+\(\.\.\.\), or on the command line "
    r"|an oracle, a PyTorch module, a scikit-learn classifier, "
)
DATA = re.compile(r"\bgive data\b")


class _Cleaned:
    """A renderable whose text cannot steer the terminal; rich's own controls stay."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.inner, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


class _Cleaning(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Cleaned(each) for each in renderables]


out = Console(soft_wrap=True, emoji=False)  # a colon in a name begins no picture
chatter = Console(stderr=True, soft_wrap=True, emoji=False)
for each in (out, chatter):  # the last place that all text passes
    each.push_render_hook(_Cleaning())

P = ParamSpec("P")
R = TypeVar("R")


def guarded(verb: Callable[P, R]) -> Callable[P, R]:
    """End a verb's deliberate errors in one line and its exit code; say how to go on after Ctrl-C."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except WhorlError as error:
            complain(typed(str(error)) + _completed(error))
            sys.exit(error.exit_code)
        except OSError as error:
            complain(explained(error))
            sys.exit(WhorlError.exit_code)
        except KeyboardInterrupt:
            command = shlex.join(["whorl", *_without_secrets(sys.argv[1:])])
            say(f"stopped; what is finished is kept. Go on with: {command}")
            sys.exit(INTERRUPTED)

    return run


def _completed(error: WhorlError) -> str:
    """The command as it was typed with all that a model's description lacks, to be typed with its own values."""
    if not isinstance(error, Undescribed) or not error.lacking:
        return ""
    words = (word for key, example in error.lacking.items() for word in (OPTIONS[key], example))
    return f". Type, with its own values: {shlex.join(['whorl', *_without_secrets(sys.argv[1:]), *words])}"


def _without_secrets(words: Sequence[str]) -> list[str]:
    """A command as it may be shown: where a secret was typed stands ``...``, to be typed again."""
    shown: list[str] = []
    hidden = False
    for word in words:
        name, mark, _ = word.partition("=")
        shown.append("..." if hidden else f"{name}=..." if mark and _is_secret(name) else word)
        hidden = not mark and _is_secret(word)
    return shown


def _is_secret(name: str) -> bool:
    # An option may be typed by its first letters only where typer allows it, which it does not.
    return name in SECRETS


def end_workers_on_interrupt() -> None:
    """From now on Ctrl-C also ends the worker processes, whose models would take minutes that nobody waits for."""

    def stop(*_: object) -> None:
        import multiprocessing

        for process in multiprocessing.active_children():
            process.terminate()
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a parent may want it
        signal.signal(signal.SIGINT, stop)


def workers_ended(patience: float = 5.0) -> bool:
    """Whether worker processes, and the threads that serve them, end within ``patience`` seconds of being killed.

    A worker that was starting when Ctrl-C came has not been told yet.
    """
    import multiprocessing

    for process in multiprocessing.active_children():
        process.kill()
    serving = [
        thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon
    ]
    for thread in serving:
        thread.join(patience)
    return not any(thread.is_alive() for thread in serving)


def foreign(text: str) -> str:
    """Text of a file or of another person within a line of markup: on one line, with nothing that styles or steers."""
    return escape(printable(" ".join(text.split())))


def say(text: str) -> None:
    """One line of chatter on stderr, as it is."""
    chatter.print(printable(" ".join(text.split("\n"))), markup=False, highlight=False)


def line(text: str) -> None:
    """One line of the result on stdout, as it is."""
    out.print(printable(" ".join(text.split("\n"))), markup=False, highlight=False)


def complain(text: str) -> None:
    """One line on stderr that says what was wrong."""
    chatter.print(f"[bold red]error:[/] {foreign(text)}", highlight=False)


def typed(message: str) -> str:
    """A message of the library, which names what Python takes (``classes=``), with the options that are typed here."""
    message = DATA.sub("give --data", IN_PYTHON.sub("", message))
    parts: list[str] = []
    end = depth = 0
    for found in KEYWORD.finditer(message):
        depth += message.count("(", end, found.start()) - message.count(")", end, found.start())
        option = "" if depth else _option(found["key"], found["value"] or "")
        parts += [message[end : found.start()], option or found[0]]
        end = found.end()
    return "".join(parts) + message[end:]


def _option(key: str, value: str) -> str:
    value = "C,H,W" if key == "input_shape" and value.startswith("(") else value
    if key in OPTIONS:
        return f"{OPTIONS[key]} {value}".rstrip()
    value = value.strip("'")
    return f"--set {key}={value or '...'}"


def print_json(document: Any) -> None:
    """One JSON document on stdout and nothing else; what a terminal would obey is written as an escape."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    sys.stdout.write("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text) + "\n")


@contextmanager
def bar(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Progress on stderr: a bar on a terminal, elsewhere a plain line now and then.

    The yielded function takes (what, done, total); a total of 0 means that nobody knows how much there is to do.
    """
    if quiet:
        yield lambda *_: None
        return
    with _drawn() if _draws() else _written() as show:
        yield show


def _draws() -> bool:
    """Whether stderr is a terminal that a bar can be redrawn on, whatever the environment says of colours."""
    return chatter.is_terminal and chatter.file.isatty() and not chatter.is_dumb_terminal


@contextmanager
def _drawn() -> Iterator[Callable[[str, int, int], None]]:
    # Imported late, so that help need not wait for it.
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=chatter) as progress:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total or None)
            progress.update(tasks[what], completed=done, total=total or None)

        yield show


@contextmanager
def _written() -> Iterator[Callable[[str, int, int], None]]:
    pace, ended = Pace(time.monotonic()), threading.Event()

    def watch() -> None:  # apart from the work, one step of which may take longer than a reader waits
        while not ended.wait(TICK):
            if told := pace.told(time.monotonic()):
                say(told)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda what, done, total: pace.update(what, done, total, time.monotonic())
    finally:
        ended.set()
        watcher.join()


class Pace:
    """What is said of a long job where no bar can be drawn. All times are seconds of one clock."""

    def __init__(self, now: float) -> None:
        self.what, self.done, self.total = "", 0, 0
        self.began = self.moved = now
        self.due = now + FIRST

    def update(self, what: str, done: int, total: int, now: float) -> None:
        """So much of the work is done."""
        if what != self.what:
            self.began = self.moved  # its first step began where the last of the work before it ended
        self.what, self.done, self.total, self.moved = what, done, total, now

    def told(self, now: float) -> str:
        """The line that is due now; empty where none is, or nothing is known yet."""
        if now < self.due or not self.what:
            return ""
        self.due = now + EVERY
        spent = max(now - self.began, 1e-9)
        if not self.done:
            counted = f": 0 of {self.total}" if self.total else ""
            return f"{self.what}{counted}, {_lasting(spent)} so far"
        line = f"{self.what}: {self.done} of {self.total}, {_rate(self.done / spent)}"
        left = (self.total - self.done) * spent / self.done
        return f"{line}, about {_lasting(left)} left" if self.done < self.total else line


def _rate(per_second: float) -> str:
    for unit, seconds in (("s", 1), ("min", 60)):
        if per_second * seconds >= 1:
            return f"{per_second * seconds:,.1f}/{unit}"
    return f"{per_second * 3600:,.1f}/h"


def _lasting(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def counter(show: Callable[[str, int, int], None], what: str, total: int) -> Callable[[], None]:
    """A function that moves the bar of `bar` by one each time it is called."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        show(what, min(done, total), total)

    return step


def grants_of(words: str) -> Grants:
    """What a level, or several single grants joined by commas, allow to be asked; `UsageError` otherwise."""
    from whorl.types import Access, grants

    named = [word.strip().lower() for word in words.split(",")]
    levels = ", ".join(Access.__members__).lower()
    if unknown := [word for word in named if word.upper() not in Access.__members__]:
        raise UsageError(f"no such access: {unknown[0]!r}. Levels: {levels}")
    return grants(Access[named[0].upper()]) if len(named) == 1 else grants(*named)


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


def checked_device(device: str) -> str:
    """The device, if torch can put a tensor there; `UsageError` otherwise."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # an unknown word, and one that this build of torch leaves out
        raise UsageError(f"no such device here: {device!r}. Those that there are: type whorl doctor") from None
    return device


def _value(text: str) -> Any:
    """JSON where it is JSON, text where it is not."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
