"""What a benchmark consists of: victims, copies, independent models, and what is asked of which schemes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from whorl.bench.shadows import Shadows
from whorl.catalog import Catalog
from whorl.errors import UsageError
from whorl.zoo.recipe import Recipe

__all__ = ["SUITES", "Derived", "Suite"]


@dataclass(frozen=True)
class Derived:
    """One row of positives: what was done to the victim.

    ``beyond`` marks removals that the paper does not claim to survive; they are shown and never averaged in.
    """

    label: str
    removal: str
    beyond: bool = False


@dataclass(frozen=True)
class Suite:
    """A benchmark.

    Parameters:
        victims: recipes of the victims; the clusters of every interval.
        derived: rows of positives, applied to each victim.
        independents: group label to recipes of models under test that have nothing to do with any victim.
        null: recipes of the independent models that calibrate; none is under test.
        layout: the table that shows it, see `Result`.
        shadows: models that schemes with ``needs_pool`` learn from; none of them is under test.
        known: removals whose results on the victim calibrate power and choose k; other data and seeds than ``derived``.
        schemes: column label to scheme expression.
        sweep: k to scheme expression, for the curve of ARUC against k.
        budgets: column label to its number of queries, where it is not ``budget``.
        chosen: the column whose scheme is that of the sweep with the best ARUC on calibration models alone.
        alpha: accepted false-accusation rate of verdicts.
        paper: row or group label to column label to the paper's own figure, as text.
    """

    name: str
    about: str
    data: str
    victims: tuple[Recipe, ...]
    derived: tuple[Derived, ...]
    independents: Mapping[str, tuple[Recipe, ...]]
    schemes: Mapping[str, str]
    null: tuple[Recipe, ...] = ()
    known: tuple[Derived, ...] = ()
    sweep: Mapping[float, str] = field(default_factory=dict)
    chosen: str = ""
    budget: int = 100
    budgets: Mapping[str, int] = field(default_factory=dict)
    alpha: float = 0.05
    paper: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    limit: int = 0
    layout: Literal["paper", "field"] = "paper"
    shadows: Shadows = field(default_factory=Shadows)

    def limited(self, limit: int) -> Suite:
        """At most ``limit`` victims, rows, and models per group: a smaller study that says so."""
        if limit < 1:
            raise UsageError(f"a limit is at least 1, not {limit}")
        return replace(
            self,
            victims=self.victims[:limit],
            derived=self.derived[:limit],
            independents={group: models[:limit] for group, models in self.independents.items()},
            known=self.known[:limit],
            limit=limit,
        )

    def budget_of(self, column: str) -> int:
        """Queries of that column's fingerprints."""
        return self.budgets.get(column, self.budget)

    def recipes(self) -> list[Recipe]:
        """Every model that the suite needs."""
        copies = [victim.then(row.removal) for victim in self.victims for row in (*self.derived, *self.known)]
        strangers = [recipe for group in self.independents.values() for recipe in group]
        shadows = [recipe for victim in self.victims for recipe in self.shadows.recipes(victim)]
        return [*self.victims, *copies, *strangers, *self.null, *shadows]

    def refuse_overlap(self) -> None:
        """Raise `UsageError` where the shadow models share a model or a seed with models under test."""
        strangers = [recipe for group in self.independents.values() for recipe in group]
        for victim in self.victims:
            copies = [victim.then(row.removal) for row in (*self.derived, *self.known)]
            self.shadows.refuse_overlap(victim, [*copies, *strangers, *self.null])


SUITES: Catalog[Suite] = Catalog(
    "suites",
    {
        "field/cifar10": "whorl.bench.field:cifar10",
        "field/digits": "whorl.bench.field:digits",
        "field/textures": "whorl.bench.field:textures",
        "ipguard/cifar10": "whorl.bench.ipguard:cifar10",
        "ipguard/cifar10-small": "whorl.bench.ipguard:cifar10_small",
        "ipguard/digits": "whorl.bench.ipguard:digits",
        "ipguard/textures": "whorl.bench.ipguard:textures",
    },
)
