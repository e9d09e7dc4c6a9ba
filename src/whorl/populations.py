"""Models to measure a test by: strangers, known copies of the victim, other victims, and shadow models to learn from.

Each kind has seeds of its own, so that no model serves twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from whorl.data import SOURCES, Dataset
from whorl.engine.stages import Progress
from whorl.engine.workers import Workers
from whorl.errors import UsageError
from whorl.nets.training import dimensions, task_of
from whorl.oracles.base import Oracle
from whorl.oracles.interface import Unasked
from whorl.oracles.opening import open_oracle
from whorl.oracles.pool import Pool
from whorl.oracles.wrappers import digests_of
from whorl.removals import REMOVALS
from whorl.removals.base import opened
from whorl.schemes import SCHEMES
from whorl.types import Access, Fingerprint
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import Recipe, parse_recipe

__all__ = ["copies", "power_elsewhere", "removal_data", "shadows", "strangers", "twins", "untrained"]

SHADOW_SEED: Final = 500_000
POWER_SEED: Final = 900_000  # of other victims on which removals without chance are measured


def strangers(
    recipe: str,
    count: int,
    *,
    folder: Path | None = None,
    first_seed: int = 1000,
    workers: Workers = 0,
    trust_code: bool = False,
    progress: Progress = lambda *_: None,
) -> dict[str, Oracle]:
    """Train ``count`` independent models from one recipe with seeds from ``first_seed`` on.

    ``trust_code`` allows an architecture ``module:callable``, as in ``train(my_nets:make, digits)``, to run.
    """
    base = _from_nothing(recipe, trust_code)
    recipes = [base.with_seed(first_seed + number) for number in range(count)]
    zoo = Zoo(folder)
    zoo.build(recipes, workers=workers, progress=progress)
    return {str(each): zoo.oracle(each) for each in recipes}


def untrained(recipe: str, *, trust_code: bool = False) -> Oracle:
    """What is known of the models of a recipe before any is trained: their inputs, outputs and access.

    Raises `UsageError` where `strangers` would.
    """
    base = _from_nothing(recipe, trust_code).with_seed(0)
    shape, classes = dimensions(base.first.architecture, base.source.load("test"))
    return Unasked(
        access=Access.PROBABILITIES if base.is_estimator else Access.WEIGHTS,
        input_shape=shape,
        classes=classes,
        name=recipe,
        digest="",
        task="classification" if base.is_estimator else task_of(base.first.architecture),
    )


def _from_nothing(recipe: str, trust_code: bool) -> Recipe:
    base = parse_recipe(recipe, trust_code=trust_code)
    if base.parent is not None:
        raise UsageError(f"independent models are trained from nothing; this recipe removes: {recipe}")
    return base


def twins(
    recipe: str,
    seeds: Sequence[int],
    *,
    folder: Path | None = None,
    workers: Workers = 0,
    trust_code: bool = False,
    progress: Progress = lambda *_: None,
) -> dict[str, Oracle]:
    """Train the victim's own recipe once for each secret seed (`whorl.lineups.commands.secret_seeds`).

    A recipe takes the lowest 63 bits of a seed. Its own seed is not used; everything else is kept, and a recipe that
    continues another, as in ``train(...) -> fine_tune(...)``, trains its last stage anew from the same parent.
    """
    base = parse_recipe(recipe, trust_code=trust_code)
    recipes = [base.with_seed(seed % 2**63) for seed in seeds]
    zoo = Zoo(folder)
    zoo.build(recipes, workers=workers, progress=progress)
    return {f"twin {number}": zoo.oracle(each) for number, each in enumerate(recipes)}


def copies(
    victim: Any,
    removals: Sequence[str],
    *,
    data: Dataset | str,
    count: int = 20,
    first_seed: int = 0,
    progress: Progress = lambda *_: None,
    **options: Any,
) -> dict[str, list[Oracle]]:
    """``count`` copies of the victim per removal, with seeds from ``first_seed`` on, to measure power.

    A removal without chance makes one copy whatever the seed; it is made twice, to see that, and given once.
    Raises `UsageError` where the victim does not take such pictures.
    """
    oracle = open_oracle(victim, **options)
    pictures = removal_data(oracle, removals, data)
    found: dict[str, list[Oracle]] = {}
    for number, expression in enumerate(removals):
        removal = REMOVALS.make(expression)
        found[expression] = []
        for seed in range(first_seed, first_seed + count):
            progress("copies", number * count + len(found[expression]), len(removals) * count)
            made = removal(oracle, pictures, generator=torch.Generator().manual_seed(seed))
            found[expression].append(opened(made, oracle, name=expression))
            if seed == first_seed + 1 and _one_and_the_same(found[expression]):
                found[expression].pop()
                break
    progress("copies", len(removals) * count, len(removals) * count)
    return found


def removal_data(victim: Oracle, removals: Sequence[str], data: Dataset | str) -> Dataset:
    """The pictures that removals of the victim take; `UsageError` where victim, removals and data do not fit."""
    for expression in removals:
        REMOVALS.make(expression)
    pictures = SOURCES.make(data).load("calibration") if isinstance(data, str) else data
    if victim.task != "generation":  # such a model is asked from codes and learns from pictures
        pictures.check_takes(victim.name, victim.space)  # a net without a fixed size would learn from any in silence
    return pictures


def _one_and_the_same(models: Sequence[Oracle]) -> bool:
    # What treats answers keeps the victim's weights, and may still draw noise for each answer.
    return all(not each.treatment for each in models) and len({digests_of(each)[:1] for each in models}) == 1


def power_elsewhere(
    fingerprint: Fingerprint,
    recipe: str,
    removals: Sequence[str],
    *,
    count: int = 20,
    folder: Path | None = None,
    workers: Workers = 0,
    trust_code: bool = False,
    progress: Progress = lambda *_: None,
) -> dict[str, list[float]]:
    """Similarities of copies of ``count`` other victims of one recipe, each to a fingerprint of its own.

    For removals without chance, of which one victim has one copy: by removal, as `calibrate` takes them.

    Parameters:
        fingerprint: its scheme, data, seed and number of queries are used for the others.
        recipe: how the victim was trained; the others have seeds from `POWER_SEED` on.

    Raises:
        UsageError: the scheme learns from shadow models, or the fingerprint does not name its data.
    """
    scheme = SCHEMES.make(fingerprint.scheme)
    if scheme.needs_pool or not fingerprint.data:
        reason = "learns from shadow models" if scheme.needs_pool else "was given pictures without an expression"
        raise UsageError(
            f"other victims of a recipe need a fingerprint each, made from its data alone, and {scheme.name} {reason}"
        )
    source = SOURCES.make(fingerprint.data)
    victims = strangers(
        recipe,
        count,
        folder=folder,
        first_seed=POWER_SEED,
        workers=workers,
        trust_code=trust_code,
        progress=progress,
    )
    found: dict[str, list[float]] = {removal: [] for removal in removals}
    for number, victim in enumerate(victims.values()):
        progress("other victims", number, count)
        own = scheme.extract(
            victim,
            source.load(scheme.part),
            budget=len(fingerprint.queries),
            seed=fingerprint.seed + 1 + number,
        )
        for removal in removals:
            made = REMOVALS.make(removal)(
                victim, source.load("calibration"), generator=torch.Generator().manual_seed(number)
            )
            found[removal].append(scheme.observe(own, opened(made, victim, name=removal)).similarity)
    progress("other victims", count, count)
    return found


def shadows(
    victim: Any,
    recipes: Sequence[str],
    removals: Sequence[str],
    *,
    data: Dataset | str,
    count: int = 6,
    folder: Path | None = None,
    workers: Workers = 0,
    progress: Progress = lambda *_: None,
    **options: Any,
) -> Pool:
    """A pool to learn from: ``count`` independent models of each recipe and ``count`` copies per removal.

    Each architecture is a group. Seeds, from `SHADOW_SEED` on, are not those of `strangers` and `copies`, so that no
    model serves twice.
    """
    independent: dict[str, Oracle] = {}
    for recipe in recipes:
        independent |= strangers(
            recipe,
            count,
            folder=folder,
            first_seed=SHADOW_SEED,
            workers=workers,
            trust_code=options.get("trust_code", False),
            progress=progress,
        )
    made = copies(victim, removals, data=data, count=count, first_seed=SHADOW_SEED, progress=progress, **options)
    families: dict[str, list[Oracle]] = {}
    for expression, models in made.items():
        families.setdefault(type(REMOVALS.make(expression)).family, []).extend(models)
    return Pool(families, list(independent.values()), [parse_recipe(each).group for each in independent])
