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
        groups: the kind of each of them (architecture, ancestor, data), in their order; none where they are all alike.

    Raises `UsageError` where some have a group and others none.
    """

    derived: Mapping[str, Sequence[Oracle]]
    independent: Sequence[Oracle]
    groups: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.groups and len(self.groups) != len(self.independent):
            raise UsageError(f"{len(self.groups)} groups are named for {len(self.independent)} independent models")

    @property
    def strangers(self) -> dict[str, list[Oracle]]:
        """The independent models by group."""
        found: dict[str, list[Oracle]] = {}
        for group, model in zip(self.groups or [""] * len(self.independent), self.independent, strict=True):
            found.setdefault(group, []).append(model)
        return found

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
