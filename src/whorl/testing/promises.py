"""The statement that every check is made of."""

from __future__ import annotations

__all__ = ["promise"]


def promise(kept: object, broken: str) -> None:
    """Raise `AssertionError` with the line ``broken`` unless kept. Unlike ``assert`` it survives ``python -O``."""
    if not kept:
        raise AssertionError(broken)
