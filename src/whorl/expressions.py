"""One small language for everything that has a name and parameters.

``ipguard(margin=5)``, ``textures(size=16)`` and ``train(resnet8, digits) -> prune_filters(4/16)`` are all
expressions. Parsing executes nothing; ``parse(str(e)) == e`` for every expression.

Grammar::

    chain   = call { "->" call }
    call    = name [ "(" [ argument { "," argument } ] ")" ]
    argument= [ key "=" ] value
    value   = number | fraction | string | path | "true" | "false" | "none" | call | "[" value { "," value } "]"

Names may hold letters, digits and ``_ . + -``, and that of code is ``module:callable``. A bare name among the values
is a string, so ``a(b)`` and ``a("b")`` mean the same and print the same. So is a bare path (``./x``, ``../x``, ``/x``,
``~/x``, ``C:\\x``, ``x/y``), which prints in quotes. In quotes a backslash escapes as in JSON, but in what begins as a
Windows path does (``"C:\\new"``), where it stands for itself; `show` doubles every backslash, which is read back either
way.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NoReturn

from whorl.errors import UsageError

__all__ = ["CODE", "Call", "Chain", "Value", "parse", "parse_chain", "show"]

MAX_LENGTH = 4096  # recipes are lines a person reads; anything longer is an accident or an attack
MAX_DEPTH = 16

# What begins a Windows path in quotes: some folder or a drive before one backslash, or a server and its share.
_WINDOWS = r"""(?:[\w.~+\ /-]+:?\\(?![\\"'])|\\\\[^\\"']+\\(?![\\"']))"""
_TOKEN = re.compile(
    rf"""\s*(?:
      (?P<arrow>->)
    | (?P<fraction>-?\d+\s*/\s*\d+)
    | (?P<number>-?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?)
    | (?P<quoted_path>"{_WINDOWS}[^"]*"|'{_WINDOWS}[^']*')
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<path>(?:(?:[A-Za-z]:|\\|\.?[^\W\d][\w.+-]*)?[\\/]|(?:~[\w.-]*|\.\.?)(?:[\\/]|(?![^\s,)\]])))
               (?:(?!->)[^\s,()\[\]="'])*)
    | (?P<name>[A-Za-z_][\w.]*:[A-Za-z_]\w*|[A-Za-z_][\w.+]*(?:-[\w.+]+)*)
    | (?P<mark>[()\[\],=])
    )""",
    re.VERBOSE,
)
CODE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # module:callable
_NAME = re.compile(r"[A-Za-z_][\w.+]*(?:-[\w.+]+)*")
_BEGINS_AS_PATH = re.compile(f'"{_WINDOWS}')
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class Call:
    """A name with parameters. ``str`` gives the text that parses back to an equal call."""

    name: str
    args: tuple[Value, ...] = ()
    kwargs: tuple[tuple[str, Value], ...] = field(default=())

    def __str__(self) -> str:
        parts = [show(value) for value in self.args]
        parts += [f"{key}={show(value)}" for key, value in self.kwargs]
        return f"{self.name}({', '.join(parts)})" if parts else self.name


Value = int | float | Fraction | str | bool | None | Call | tuple["Value", ...]


@dataclass(frozen=True)
class Chain:
    """Calls applied one after the other, as in ``train(...) -> fine_tune(...)``."""

    steps: tuple[Call, ...]

    def __str__(self) -> str:
        return " -> ".join(str(step) for step in self.steps)


def parse(text: str) -> Call:
    """Parse one call. Raises `UsageError` with the place of the mistake."""
    chain = parse_chain(text)
    if len(chain.steps) != 1:
        raise UsageError(f"one expression is expected here, not a chain: {text!r}")
    return chain.steps[0]


def parse_chain(text: str) -> Chain:
    """Parse calls joined by ``->``. Raises `UsageError` with the place of the mistake."""
    return _Parser(text).chain()


def show(value: Value) -> str:
    """The text of a value. Raises `UsageError` for a number that is not finite."""
    if isinstance(value, Call):
        return str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(show(item) for item in value)}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, str):
        bare = _NAME.fullmatch(value) and value not in _WORDS
        return value if bare else _quote(value)
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"an expression holds finite numbers only, not {value}")
    return repr(value)


class _Parser:
    """Recursive descent over the token list; depth and length are bounded before any work is done."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise UsageError(f"an expression of {len(text)} characters is too long (at most {MAX_LENGTH})")
        self.text = text
        self.tokens = list(self._scan())
        self.at = 0

    def _scan(self) -> Iterator[tuple[str, str, int]]:
        position = 0
        text = self.text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                self._fail(position, "a name, number or string")
            kind = match.lastgroup or ""
            yield kind, match.group(kind), match.start(kind)
            position = match.end()

    def _fail(self, position: int, expected: str) -> NoReturn:
        shown = self.text[:position] + "⟨here⟩" + self.text[position:]
        raise UsageError(f"cannot read the expression {shown!r}: expected {expected}")

    def _peek(self) -> tuple[str, str, int]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "", len(self.text))

    def _take(self, wanted: str, expected: str) -> str:
        kind, value, position = self._peek()
        if wanted not in (kind, value):
            self._fail(position, expected)
        self.at += 1
        return value

    def chain(self) -> Chain:
        steps = [self.call(0)]
        while self._peek()[0] == "arrow":
            self.at += 1
            steps.append(self.call(0))
        if self._peek()[0] != "end":
            self._fail(self._peek()[2], "'->' or the end")
        return Chain(tuple(steps))

    def call(self, depth: int) -> Call:
        as_folder = ", as paths belong in one: folder(PATH)" if self._peek()[0] == "path" else ""
        name = self._take("name", f"a name{as_folder}")
        if self._peek()[1] != "(":
            return Call(name)
        self.at += 1
        args: list[Value] = []
        kwargs: dict[str, Value] = {}
        while self._peek()[1] != ")":
            key = self._key()
            value = self.value(depth + 1)
            if key is None:
                if kwargs:
                    self._fail(self._peek()[2], "key=value after the first key=value")
                args.append(value)
            elif key in kwargs:
                self._fail(self._peek()[2], f"{key!r} only once")
            else:
                kwargs[key] = value
            if self._peek()[1] != ")":
                self._take(",", "',' or ')', and quotes around a text that is no single word or path")
        self.at += 1
        return Call(name, tuple(args), tuple(kwargs.items()))

    def _key(self) -> str | None:
        following = self.tokens[self.at + 1][1] if self.at + 1 < len(self.tokens) else ""
        if self._peek()[0] != "name" or following != "=":
            return None
        key = self._peek()[1]
        self.at += 2
        return key

    def value(self, depth: int) -> Value:
        if depth > MAX_DEPTH:
            self._fail(self._peek()[2], f"at most {MAX_DEPTH} levels of nesting")
        kind, text, position = self._peek()
        if kind == "name":
            call = self.call(depth)
            if call.args or call.kwargs:
                return call
            return _WORDS.get(text, text)
        if text == "[":
            return self._sequence(depth)
        self.at += 1
        if kind == "fraction":
            above, below = (int(part) for part in text.split("/"))
            if below == 0:
                self._fail(position, "a fraction with a denominator other than 0")
            return Fraction(above, below)
        if kind == "number":
            return float(text) if any(mark in text for mark in ".eE") else int(text)
        if kind in ("string", "path", "quoted_path"):
            return _unquote(text) if kind == "string" else text[1:-1] if kind == "quoted_path" else text
        self._fail(position, "a value")

    def _sequence(self, depth: int) -> tuple[Value, ...]:
        self.at += 1
        items: list[Value] = []
        while self._peek()[1] != "]":
            items.append(self.value(depth + 1))
            if self._peek()[1] != "]":
                self._take(",", "',' or ']'")
        self.at += 1
        return tuple(items)


def _quote(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    if not _BEGINS_AS_PATH.match(quoted):
        return quoted
    # An escape in it would be read as part of a Windows path, unless the first character is written as an escape too.
    units = text[0].encode("utf-16-be").hex()
    first = "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    return f'"{first}{json.dumps(text[1:], ensure_ascii=False)[1:]}'


def _unquote(text: str) -> str:
    body = text[1:-1]
    if text[0] == "'":
        body = body.replace("\\'", "'").replace('"', '\\"')
    try:
        return str(json.loads(f'"{body}"'))
    except json.JSONDecodeError as error:
        raise UsageError(f"cannot read the string {text}: {error.msg}") from None
