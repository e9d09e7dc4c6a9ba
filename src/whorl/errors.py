"""Every error whorl raises on purpose: what was given, what is needed, what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from whorl.printable import printable

__all__ = [
    "AccessRefused",
    "BudgetExhausted",
    "InvalidFile",
    "MissingExtra",
    "OracleError",
    "Undescribed",
    "Unnamed",
    "UsageError",
    "WhorlError",
]

LONGEST: Final = 2000  # characters of a message


class WhorlError(Exception):
    """Base of all deliberate errors.

    The message is one line that a person can act on. It quotes names and values that others wrote, so whatever would
    break the line, steer a terminal or turn the reading order is taken out here, and the middle of a very long one is
    left out. ``exit_code`` is what the command line returns.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str = "") -> None:
        line = message if message.isprintable() else printable(" ".join(message.split()))
        # What was given stands at the beginning of a message, and what to type next at its end.
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 3 :]}")


class UsageError(WhorlError, ValueError):
    """A name, option or value that whorl does not know or cannot use."""

    exit_code = 2


class Undescribed(UsageError):
    """A model that is not described in full. ``lacking`` names all that is needed, each with an example of a value."""

    def __init__(self, message: str, lacking: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.lacking = dict(lacking or {})


class Unnamed(UsageError):
    """A model that knows its classes by name, where nobody says in which order data count them."""


class BudgetExhausted(WhorlError):
    """The hard query budget of an oracle is spent. Answers received so far are kept."""

    exit_code = 5


class AccessRefused(WhorlError):
    """A scheme, sampler or removal needs more access than a model grants. Raised before the first query."""

    exit_code = 6


class InvalidFile(WhorlError):
    """A file that is damaged, lies about itself, is too large, or would have to execute code to load."""

    exit_code = 7


class OracleError(WhorlError):
    """A model could not be asked, or its answer cannot be an answer (shape, NaN, label out of range)."""


class MissingExtra(WhorlError):
    """An optional dependency is absent; the message names the extra to install."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} needs an optional dependency. Type: pip install "whorl[{extra}]"')

    def __reduce__(self) -> tuple[type[WhorlError], tuple[object, ...]]:
        return WhorlError, self.args  # a worker process can send the message, not the two words it was made of
