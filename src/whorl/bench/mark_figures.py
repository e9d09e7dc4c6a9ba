"""What a result says of a mark beside its cells: whom other draws accuse, and what forged marks get."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel

__all__ = ["DRAWS", "LEVEL", "Forgery", "MarkFigures"]

DRAWS: Final = 50
LEVEL: Final = 0.01
ALPHA: Final = 1e-6


class Forgery(BaseModel):
    """One attempt: ``grade`` and ``exact`` are what its verdict says of it, before a judge who gives his number."""

    attack: str
    similarity: float
    p_value: float
    grade: str
    exact: bool

    @property
    def accuses(self) -> bool:
        """Whether a judge who asks for grade B and p <= 1e-6 is convinced."""
        return self.grade == "B" and self.exact and self.p_value <= ALPHA


class MarkFigures(BaseModel):
    """What a mark says of models that know nothing of it.

    ``accused`` holds by group of strangers, for each of `DRAWS` draws of other labels or bits for the same inputs, how
    many of the ``asked`` have p <= `LEVEL`; ``level`` is the chance of that which the design gives, at most `LEVEL` for
    matches are counted in whole numbers. Of a mark that draws nothing there are none. ``accepted`` are the strangers
    that the paper's own rule calls marked, where it has one; ``forged`` is what an accuser gets who cheats.
    """

    null: str
    asked: dict[str, int]
    accused: dict[str, list[int]] = {}
    level: float | None = None
    accepted: dict[str, int] = {}
    forged: list[Forgery] = []
