"""Which independent models have their victim's own architecture: those that are hardest to tell from a copy."""

from __future__ import annotations

from functools import cache

from whorl.bench.result import Result
from whorl.errors import UsageError
from whorl.zoo.recipe import parse_recipe

__all__ = ["own_architecture"]


def own_architecture(result: Result) -> set[tuple[int, str]]:
    """(victim, label of the suspect) of every suspect whose recipe begins with the architecture of that victim's.

    Empty in results that were written before models were kept. A label that stands for several architectures, and a
    recipe that is not known here, as of a plug-in, are left out.
    """
    found: dict[str, set[str]] = {}
    for model in result.models:
        found.setdefault(model.label, set()).add(_architecture(model.recipe))
    victims = {number: _architecture(recipe) for number, recipe in enumerate(result.victims)}
    return {(victim, label) for victim, of in victims.items() if of for label, nets in found.items() if nets == {of}}


@cache
def _architecture(recipe: str) -> str:
    try:
        return str(parse_recipe(recipe).first.architecture)
    except UsageError:
        return ""
