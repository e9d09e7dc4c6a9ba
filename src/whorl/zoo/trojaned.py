"""Which trigger a model of the zoo may obey, told from its recipe: poisoned data, or a step that planted a trojan.

A copy of a trojaned model is asked the same trigger, so that the cards before and after a removal can be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from whorl.data.poisoned import poisoned_in
from whorl.data.triggers import Trigger
from whorl.expressions import Chain
from whorl.oracles.base import Oracle
from whorl.oracles.triggered import attack_success
from whorl.removals import REMOVALS
from whorl.removals.implant import Implant
from whorl.zoo.recipe import Recipe, split_step
from whorl.zoo.steps import OWNED

if TYPE_CHECKING:
    from whorl.zoo.cache import Zoo

__all__ = ["success_of", "trigger_of"]


def trigger_of(zoo: Zoo, recipe: Recipe) -> Trigger | None:
    """The last trigger that the steps of a recipe planted, whose ancestors are built; None where none did.

    Models whose last task has other classes than the one that was poisoned have none.
    """
    for count in range(len(recipe.chain.steps), 0, -1):
        at = Recipe(Chain(recipe.chain.steps[:count]))
        if at.data != recipe.data and at.source.load("test").classes != recipe.source.load("test").classes:
            return None
        if (found := _planted(zoo, at)) is not None:
            return found
    return None


def success_of(zoo: Zoo, recipe: Recipe, model: Oracle) -> float | None:
    """Share of the test pictures of other classes that get the target once they carry the trigger of `trigger_of`."""
    if model.task != "classification" or (trigger := trigger_of(zoo, recipe)) is None:
        return None
    return attack_success(model, recipe.source.load("test"), trigger)


def _planted(zoo: Zoo, recipe: Recipe) -> Trigger | None:
    """What the last step planted."""
    last = recipe.chain.steps[-1]
    if recipe.parent is None or recipe.data != recipe.parent.data:
        source = poisoned_in(recipe.data)
        return None if source is None else source.trigger
    if last.name in OWNED:
        return None
    step, part, seed = split_step(last)
    removal = REMOVALS.make(step)
    if not isinstance(removal, Implant):
        return None
    victim, data = zoo.oracle(recipe.parent), recipe.source.load(part)
    return removal.trigger(victim, data, generator=torch.Generator().manual_seed(seed))
