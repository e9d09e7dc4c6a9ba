"""One thing that happened between two nets, and who must have come first for it to have happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["FIRST", "Direction", "Operation"]

Direction = Literal["A first", "B first", "undetermined"]
FIRST: Final[tuple[Direction, Direction]] = ("B first", "A first")  # where A, or B, has lost or gained something


@dataclass(frozen=True)
class Operation:
    """One thing that happened. ``first`` is who must have come first for it to have happened."""

    name: str
    told: str
    first: Direction = "undetermined"
