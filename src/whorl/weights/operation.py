"""One thing that happened between two nets, and who must have come first for it to have happened."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from whorl.errors import UsageError

__all__ = ["FIRST", "KINDS", "Direction", "Kind", "Operation"]

Direction = Literal["A first", "B first", "undetermined"]
FIRST: Final[tuple[Direction, Direction]] = ("B first", "A first")  # where A, or B, has lost or gained something


@dataclass(frozen=True)
class Kind:
    """What an operation means to those who read it.

    ``disguise``: which unit is which must be found before numbers are compared; ``turned``: or axes are others;
    ``plan``: the plans of the nets differ; ``lossy``: what it takes away tells who came first; ``equal``: the numbers
    are the same but for rounding.
    """

    disguise: bool = False
    turned: bool = False
    plan: bool = False
    lossy: bool = False
    equal: bool = False


_DISGUISE: Final = Kind(disguise=True, turned=True)
KINDS: Final[Mapping[str, Kind]] = {
    "signs flipped": _DISGUISE,
    "reordered units": _DISGUISE,
    "reordered axes": _DISGUISE,
    "depth changed": Kind(plan=True),
    "width changed": Kind(plan=True, turned=True),
    "experts": Kind(plan=True),
    "cast": Kind(lossy=True, equal=True),
    "quantised": Kind(lossy=True),
    "pruned": Kind(lossy=True),
    "projected": Kind(lossy=True),
    "identical": Kind(equal=True),
    **dict.fromkeys(
        (
            *("adapter", "axes pruned", "embedding untied", "folded norms", "hidden width changed", "layers dropped"),
            *("layers duplicated", "layers inserted", "layers reordered", "low-rank update", "one expert"),
            *("partly untouched", "reordered heads", "scaled", "tuned", "unembedding", "units added", "units pruned"),
            *("upcycled", "vocabulary changed", "vocabulary cut", "vocabulary extended"),
        ),
        Kind(),
    ),
}
"""Everything that can be told, by its name."""


@dataclass(frozen=True)
class Operation:
    """One thing that happened. ``first`` is who must have come first for it to have happened."""

    name: str
    told: str
    first: Direction = "undetermined"

    def __post_init__(self) -> None:
        """Raise `UsageError` for a name that is not among `KINDS`."""
        if self.name not in KINDS:
            near = difflib.get_close_matches(self.name, KINDS, n=1)
            raise UsageError(f"no such operation: {self.name!r}.{f' Did you mean {near[0]}?' if near else ''}")

    @property
    def kind(self) -> Kind:
        """What it means."""
        return KINDS[self.name]
