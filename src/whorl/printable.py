"""Text that others wrote, as it may be shown, and numbers of things."""

from __future__ import annotations

import json
from unicodedata import category

__all__ = ["counted", "escaped", "printable"]


def printable(text: str) -> str:
    """The text with U+FFFD for what would steer a terminal or turn the reading order.

    Those are control characters, escapes, marks of direction, and characters without width. Line ends, tabs and
    spaces of every width stay.
    """
    if text.isprintable():
        return text
    return "".join(
        mark if mark.isprintable() or mark in "\n\t" or category(mark) == "Zs" else "\ufffd" for mark in text
    )


def escaped(text: str) -> str:
    """The text on one line with every mark that is not printable, and every backslash, written as JSON writes it.

    Unlike `printable` it keeps different texts different: for names that tell things apart in files of other tools.
    """
    return "".join(mark if mark.isprintable() and mark != "\\" else json.dumps(mark)[1:-1] for mark in text)


def counted(number: int, one: str, many: str = "") -> str:
    """``1 victim``, ``3,000 victims``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
