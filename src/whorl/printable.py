"""Text that others wrote, as it may be shown."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """The text with U+FFFD for what would steer a terminal or turn the reading order.

    Those are control characters, escapes, marks of direction, and characters without width. Line ends and tabs stay,
    and other spaces become plain ones.
    """
    if text.isprintable():
        return text
    return "".join(
        mark if mark.isprintable() or mark in "\n\t" else " " if mark.isspace() and mark > "\x85" else "\ufffd"
        for mark in text
    )
