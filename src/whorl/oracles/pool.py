"""Shadow models: what a scheme may learn from at extraction, and never meets again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.wrappers import digests_of

__all__ = ["Pool"]


@dataclass(frozen=True)
class Pool:
    """Models that the owner made to learn from. None of them may calibrate or be under test.

    Parameters:
        derived: family of removal (as in ``prune``) to models made from the victim.
        independent: models trained without the victim.
    """

    derived: Mapping[str, Sequence[Oracle]]
    independent: Sequence[Oracle]

    @property
    def copies(self) -> list[Oracle]:
        """The derived models of all families."""
        return [model for models in self.derived.values() for model in models]

    @property
    def digests(self) -> tuple[str, ...]:
        """Digests by which a model of this pool is known again, as given and of its weights."""
        return tuple(sorted(set[str]().union(*map(digests_of, (*self.copies, *self.independent)))))

    def require(self, derived: int, independent: int, scheme: str) -> None:
        """Raise `UsageError` unless the pool holds at least so many models of each kind."""
        if len(self.copies) < derived or len(self.independent) < independent:
            raise UsageError(
                f"{scheme} learns from at least {derived} copies of the victim and {independent} independent models; "
                f"this pool holds {len(self.copies)} and {len(self.independent)}"
            )
