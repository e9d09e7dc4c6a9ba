"""Shadow models of a suite: what its schemes may learn from, and never meet again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.pool import Pool
from whorl.removals import REMOVALS
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import Recipe
from whorl.zoo.steps import OWNED

__all__ = ["Shadows", "family_of"]


@dataclass(frozen=True)
class Shadows:
    """Recipes of a pool.

    Parameters:
        derived: removals, applied to each victim.
        independent: recipes of models trained without any victim.
        disjoint_families: whether models under test may not have gone through a family of removal that is in the pool.
    """

    derived: tuple[str, ...] = ()
    independent: tuple[Recipe, ...] = ()
    disjoint_families: bool = False

    def __bool__(self) -> bool:
        return bool(self.derived or self.independent)

    def recipes(self, victim: Recipe) -> list[Recipe]:
        """Every model of the pool of that victim."""
        return [*(victim.then(removal) for removal in self.derived), *self.independent]

    def families(self, victim: Recipe) -> list[str]:
        """Families of removal in the pool."""
        return sorted({family_of(victim.then(removal)) for removal in self.derived})

    def pool(self, victim: Recipe, zoo: Zoo) -> Pool:
        """The models, opened."""
        derived: dict[str, list[Oracle]] = {}
        for recipe in (victim.then(removal) for removal in self.derived):
            derived.setdefault(family_of(recipe), []).append(zoo.oracle(recipe))
        groups = [recipe.group for recipe in self.independent]
        return Pool(derived, [zoo.oracle(recipe) for recipe in self.independent], groups)

    def refuse_overlap(self, victim: Recipe, tested: Iterable[Recipe]) -> None:
        """Raise `UsageError` where the pool shares with ``tested`` what it may not.

        Shared is a model; a seed, with which two trainings begin or shuffle alike; and, where asked, a family.
        """
        models = list(tested)
        digests = {recipe.digest for recipe in models} | {victim.digest}
        seeds = {_seed_of(recipe) for recipe in (victim, *models)} - {None}
        families = {family_of(recipe) for recipe in models if recipe.parent} if self.disjoint_families else set[str]()
        for recipe in self.recipes(victim):
            if recipe.digest in digests:
                raise UsageError(f"the pool of shadow models holds a model under test: {recipe}")
            if _seed_of(recipe) in seeds:
                raise UsageError(
                    f"the pool of shadow models shares the seed {_seed_of(recipe)} with a model under test: {recipe}. "
                    "Give its last step a seed of its own"
                )
            if recipe.parent and family_of(recipe) in families:
                raise UsageError(
                    f"the pool of shadow models and the models under test both go through {family_of(recipe)}: "
                    f"{recipe}. Leave that family out of one of them"
                )


def family_of(recipe: Recipe) -> str:
    """Family of the last removal; empty for a model trained from nothing, and for one that its owner marked."""
    last = recipe.chain.steps[-1].name
    removal = REMOVALS[last] if recipe.parent and last not in OWNED else None
    return str(getattr(removal, "family", ""))


def _seed_of(recipe: Recipe) -> object:
    """What the last step draws with; None for a model that was downloaded."""
    return dict(recipe.chain.steps[-1].kwargs).get("seed")
