"""What recipes of every kind of model have in common: a chain of steps with a text, a digest and a parent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

from whorl.expressions import Chain

__all__ = ["Chained"]

FORMAT: Final = 1  # part of every digest; raised when the meaning of an old text changes


@dataclass(frozen=True)
class Chained:
    """A bound chain of steps. The first draws and trains a net; each further one makes another of it."""

    chain: Chain

    def __str__(self) -> str:
        return str(self.chain)

    @cached_property
    def digest(self) -> str:
        """Content hash, 20 hexadecimal digits."""
        return hashlib.sha256(f"{FORMAT}\n{self}".encode()).hexdigest()[:20]

    @property
    def parent(self) -> Self | None:
        """The recipe without its last step."""
        return type(self)(Chain(self.chain.steps[:-1])) if len(self.chain.steps) > 1 else None

    @property
    def ancestors(self) -> list[Self]:
        """Its parent, the parent of that, and so on to the first step alone."""
        steps = self.chain.steps
        return [type(self)(Chain(steps[:count])) for count in range(len(steps) - 1, 0, -1)]
