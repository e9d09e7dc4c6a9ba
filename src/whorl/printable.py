"""Text that others wrote, as it may be shown."""

from __future__ import annotations

from unicodedata import category

__all__ = ["printable"]


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
