"""The kinds of model that a zoo holds, and what it asks of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final

from whorl.catalog import Catalog
from whorl.oracles.base import Oracle
from whorl.zoo.recipe import Recipe
from whorl.zoo.steps import LANGUAGE, NET

if TYPE_CHECKING:
    from whorl.zoo.cache import Zoo

__all__ = ["KINDS", "Kind", "kind_of"]


class Kind(ABC):
    """How models of one kind are made of their recipes, kept and opened."""

    folder: ClassVar[str]
    """Of a cache, where they lie."""
    cards: ClassVar[str]
    """Where their cards lie in it: ``*`` stands for a model's name."""
    on_gpu: ClassVar[bool] = True
    """Whether they are made on the device that is asked for."""

    @abstractmethod
    def suffix(self, recipe: Recipe) -> str:
        """What the model's path ends with after its name; nothing where it is a folder."""

    @abstractmethod
    def make(self, zoo: Zoo, recipe: Recipe) -> Any:
        """Make the model of a recipe whose `Recipe.needs` are built, and write it; what `examined` is given."""

    @abstractmethod
    def examined(self, zoo: Zoo, recipe: Recipe, made: Any) -> dict[str, Any]:
        """Fields of its card that only the model tells."""

    @abstractmethod
    def oracle(self, zoo: Zoo, recipe: Recipe, name: str) -> Oracle:
        """A built model with all its access. Raises `UsageError` where such models are not asked."""


KINDS: Final[Catalog[Kind]] = Catalog(
    "kinds of model", {NET: "whorl.zoo.making:Nets", LANGUAGE: "whorl.zoo.language:Languages"}
)


def kind_of(recipe: Recipe) -> Kind:
    """What makes and keeps the model of a recipe."""
    return KINDS[recipe.kind]()
