"""What a benchmark consists of: victims, copies, independent models, and what is asked of which schemes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import Final, Literal

from whorl.catalog import Catalog
from whorl.errors import UsageError
from whorl.expressions import parse
from whorl.removals import REMOVALS
from whorl.suites.shadows import Shadows, family_of
from whorl.zoo.recipe import Recipe

__all__ = ["MARK", "SUITES", "Derived", "Kind", "Suite", "Suspect"]

TWINS: Final = 5_000  # the first seed of twins that are trained for a lineup; nobody under test has one from here on
MARK: Final = "MARK"
MARKING: Final = 4_000  # the first seed by which victims are marked
Kind = Literal["derived", "beyond", "sibling", "independent"]
"""What a suspect is to a victim; ``beyond`` is a copy that the paper does not claim to recognise."""


@dataclass(frozen=True)
class Derived:
    """One row of positives: what was done to the victim.

    ``beyond`` marks removals that the paper does not claim to survive; they are shown and never averaged in. ``group``
    joins rows that a table shows as one; a row of its own by default. In a suite of marks `MARK` in the removal stands
    for the mark of the victim, and an empty one leaves the marked model as it is.
    """

    label: str
    removal: str
    beyond: bool = False
    group: str = ""


@dataclass(frozen=True)
class Suspect:
    """A model under test: ``kinds`` says by victim what it is, for those whose fingerprints it meets.

    ``column`` is the only one that it meets, in a suite of marks the one that was embedded; all by default.
    """

    recipe: Recipe
    label: str
    group: str
    kinds: Mapping[int, Kind]
    column: str = ""

    @property
    def family(self) -> str:
        """Family of the removal that made it from a victim; empty for a model that nobody's copy is."""
        copied = any(kind in ("derived", "beyond") for kind in self.kinds.values())
        return family_of(self.recipe) if copied else ""


@dataclass(frozen=True)
class Suite:
    """A benchmark.

    Parameters:
        victims: recipes of the victims; the clusters of every interval.
        derived: rows of positives, applied to each victim.
        independents: group label to recipes of models under test that have nothing to do with any victim.
        null: recipes of the independent models that calibrate; none is under test.
        layout: the table that shows it, see `Result`. Of ``marks`` each column is a mark: it is embedded into each
            victim, ``derived`` is done to what comes out, and that copy meets this column alone.
        shadows: models that schemes with ``needs_pool`` learn from; none of them is under test.
        known: removals whose results on the victim calibrate power and choose k; other data and seeds than ``derived``.
        schemes: column label to scheme expression.
        sweep: k to scheme expression, for the curve of ARUC against k.
        budgets: column label to its number of queries, where it is not ``budget``.
        chosen: the column whose scheme is that of the sweep with the best ARUC on calibration models alone.
        alpha: accepted false-accusation rate of verdicts.
        crossed: whether the copies of one victim are also held against the fingerprints of the others.
        own_data: whether suspects meet only the victims whose data they share, where a suite has several tasks; then
            every victim is fingerprinted on its own data and ``data`` only names the first one's.
        siblings: what a suspect is that shares its first step with a victim without being made from it: ``apart``,
            shown and never averaged in, since whether that makes it a copy is a matter of definition; or
            ``independent``.
        paper: row or group label to column label to the paper's own figure, as text.
        paper_accuracy: the same for accuracies: row or group label, or ``victim``, to the paper's figure, as text.
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
    paper_accuracy: Mapping[str, str] = field(default_factory=dict)
    limit: int = 0
    layout: Literal["paper", "field", "marks"] = "paper"
    shadows: Shadows = field(default_factory=Shadows)
    crossed: bool = False
    own_data: bool = False
    siblings: Literal["apart", "independent"] = "apart"

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

    def attacked(self, masks: str) -> Suite:
        """Only the rows whose label, removal or family matches one of the comma-separated wildcards.

        Raises `UsageError` naming the removals there are.
        """
        wanted = [mask.strip() for mask in masks.split(",")]

        def matches(row: Derived) -> bool:
            if not row.removal:
                return True  # the marked model itself, which every other row is held against
            last = parse(row.removal.rpartition("->")[2])
            names = (row.label, last.name, str(getattr(REMOVALS[last.name], "family", "")))
            return any(fnmatch(name, mask) for name in names for mask in wanted)

        kept = tuple(row for row in self.derived if matches(row))
        if not any(row.removal for row in kept):
            known = sorted({parse(row.removal.rpartition("->")[2]).name for row in self.derived if row.removal})
            raise UsageError(f"no removal of {self.name} matches {masks!r}. It has {', '.join(known)}.")
        return replace(self, derived=kept)

    def asking(self, budgets: tuple[int, ...]) -> Suite:
        """Every scheme at each of these numbers of queries, as columns of their own."""
        if not budgets or min(budgets) < 1:
            raise UsageError(f"budgets are numbers of queries of at least 1, as in 50,100, not {list(budgets)}")
        pairs = [(f"{name} @{budget}", text, budget) for name, text in self.schemes.items() for budget in budgets]
        return replace(
            self,
            schemes={name: text for name, text, _ in pairs},
            budgets={name: budget for name, _, budget in pairs},
            sweep={},
            chosen="",
        )

    def suspects(self) -> Iterator[Suspect]:
        """Every model under test with the victims whose fingerprints it meets, and what it is to each of them."""
        for index, victim in enumerate(self.victims):
            if self.layout == "marks":
                yield from self._marked_copies(index)
                continue
            for row in self.derived:
                recipe = victim.then(row.removal)
                kinds: dict[int, Kind] = {index: "beyond" if row.beyond else "derived"}
                if self.crossed:
                    kinds |= self._strange(recipe, without=index)
                yield Suspect(recipe, row.label, row.group or row.label, kinds)
        for group, recipes in self.independents.items():
            for number, recipe in enumerate(recipes):
                yield Suspect(recipe, f"{group} {number + 1}", group, self._strange(recipe, without=None))

    def _marked_copies(self, victim: int) -> Iterator[Suspect]:
        """What was made of one victim, by mark and row."""
        for column, expression in self.schemes.items():
            marked = self.marked(victim, expression, self.budget_of(column))
            for row in self.derived:
                recipe = marked.then(row.removal.replace(MARK, expression))
                kind: Kind = "beyond" if row.beyond else "derived"
                yield Suspect(recipe, f"{row.label}, {column}", row.group or row.label, {victim: kind}, column)

    def marked(self, victim: int, expression: str, count: int) -> Recipe:
        """A victim in which a mark was embedded."""
        return self.victims[victim].then(f"mark({expression}, count={count}, seed={MARKING + victim})")

    def _strange(self, recipe: Recipe, without: int | None) -> dict[int, Kind]:
        """What a model is to the victims that it was not made from."""
        apart: Kind = "sibling" if self.siblings == "apart" else "independent"
        return {
            index: apart if recipe.root == victim.root else "independent"
            for index, victim in enumerate(self.victims)
            if index != without and recipe != victim and (not self.own_data or recipe.data == victim.data)
        }

    def twins(self, victim: int) -> tuple[Recipe, ...]:
        """Other runs of a victim's own recipe, as many as alpha needs: of the null, or with seeds of their own.

        Raises:
            UsageError: the recipe is one model, the same for every seed.
        """
        recipe, count = self.victims[victim], math.ceil(1 / self.alpha - 1e-9) - 1
        seed = dict(recipe.chain.steps[-1].kwargs).get("seed")
        if isinstance(seed, int):
            alike = [each for each in self.null if str(each.with_seed(seed)) == str(recipe)]
            if len(alike) >= count:
                return tuple(alike[:count])
        return tuple(recipe.with_seed(each) for each in range(TWINS, TWINS + count))

    def data_of(self, victim: int) -> str:
        """The expression of the pictures that a victim is fingerprinted with."""
        return self.victims[victim].data if self.own_data else self.data

    def budget_of(self, column: str) -> int:
        """Queries of that column's fingerprints."""
        return self.budgets.get(column, self.budget)

    def recipes(self) -> list[Recipe]:
        """Every model that the suite needs."""
        copies = [victim.then(row.removal) for victim in self.victims for row in self.known]
        copies += [suspect.recipe for suspect in self.suspects() if suspect.recipe.parent]
        strangers = [recipe for group in self.independents.values() for recipe in group]
        shadows = [recipe for victim in self.victims for recipe in self.shadows.recipes(victim)]
        return [*self.victims, *copies, *strangers, *self.null, *shadows]

    def refuse_overlap(self) -> None:
        """Raise `UsageError` where the shadow models share a model or a seed with models under test."""
        if not self.shadows:
            return
        strangers = [recipe for group in self.independents.values() for recipe in group]
        for victim in self.victims:
            copies = [victim.then(row.removal) for row in (*self.derived, *self.known)]
            self.shadows.refuse_overlap(victim, [*copies, *strangers, *self.null])


SUITES: Catalog[Suite] = Catalog(
    "suites",
    {
        "field/cifar10": "whorl.suites.field:cifar10",
        "field/digits": "whorl.suites.field:digits",
        "field/textures": "whorl.suites.field:textures",
        "ipguard/cifar10": "whorl.suites.ipguard:cifar10",
        "ipguard/cifar10-small": "whorl.suites.ipguard:cifar10_small",
        "ipguard/digits": "whorl.suites.ipguard:digits",
        "ipguard/paper-cifar10": "whorl.suites.paper:cifar10",
        "ipguard/paper-cifar100": "whorl.suites.paper:cifar100",
        "ipguard/paper-imagenet": "whorl.suites.paper:imagenet",
        "ipguard/textures": "whorl.suites.ipguard:textures",
        "hard/cifar10": "whorl.suites.hard:cifar10",
        "hard/paper": "whorl.suites.hard:paper",
        "hard/tiny": "whorl.suites.hard:tiny",
        "marks/small": "whorl.suites.marks:small",
        "marks/tiny": "whorl.suites.marks:tiny",
        "modelreuse/cifar10": "whorl.suites.modelreuse:cifar10",
        "modelreuse/paper": "whorl.suites.modelreuse:paper",
        "modelreuse/tiny": "whorl.suites.modelreuse:tiny",
        "sacbench/cifar10": "whorl.suites.sacbench:cifar10",
        "sacbench/paper": "whorl.suites.sacbench:paper",
        "sacbench/tiny": "whorl.suites.sacbench:tiny",
        "sacbench/tiny-leaked": "whorl.suites.sacbench:tiny_leaked",
        "unlearning/cifar10": "whorl.suites.unlearning:cifar10",
        "unlearning/paper": "whorl.suites.unlearning:paper",
        "unlearning/tiny": "whorl.suites.unlearning:tiny",
        "unlearning/tiny-sisa": "whorl.suites.unlearning:tiny_sisa",
    },
)
"""Benchmarks: which victims, copies, strangers and schemes are held against each other; `whorl bench list`."""
