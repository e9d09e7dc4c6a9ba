"""A small zoo for claims: two victims on digits at 16 px, what thieves made of them, and models of others."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest

from whorl.data import SOURCES
from whorl.schemes import SCHEMES
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import Recipe, parse_recipe

DATA = "digits(size=16)"
SETTINGS = f"{DATA}, epochs=8, batch=50"
TUNE = "epochs=4"
COPIES = {
    "FTLL": f"fine_tune(last, {TUNE}, learning_rate=0.01)",
    "FTAL": f"fine_tune(all, {TUNE}, learning_rate=0.01)",
    "RTLL": f"retrain(last, {TUNE}, learning_rate=0.05)",
    "RTAL": f"retrain(all, {TUNE}, learning_rate=0.02)",
    "WP p=.3": f"prune_weights(3/10, {TUNE}, learning_rate=0.005)",
}
EXTRACTED = "extract(resnet8(width=8), labels, epochs=8, seed=9)"  # no victim starts from the same weights


class SmallZoo:
    """Matching rates of copies and of independent models, by victim, scheme and seed of the extraction."""

    victims = (0, 1)
    seeds = (0, 1, 2)

    def __init__(self, folder: Path) -> None:
        self.zoo = Zoo(folder)
        self.independents = [
            *(parse_recipe(f"train(resnet8(width=8), {SETTINGS}, seed={seed})") for seed in (100, 101)),
            parse_recipe(f"train(vgg(width=8), {SETTINGS}, seed=110)"),
            parse_recipe(f"train(lenet5, {SETTINGS}, learning_rate=0.05, seed=120)"),
            parse_recipe(f"train(random_forest(trees=50), {DATA}, seed=130)"),
        ]
        self.oracle = lru_cache(maxsize=64)(self._oracle)
        self.fingerprint = lru_cache(maxsize=64)(self._fingerprint)

    def victim(self, seed: int) -> Recipe:
        return parse_recipe(f"train(resnet8(width=8), {SETTINGS}, seed={seed})")

    def copies(self, victim: int, scheme: str, *, seed: int = 0, budget: int = 50) -> dict[str, float]:
        """Matching rate of each copy that the paper claims to recognise."""
        return {
            label: self._rate(self.victim(victim).then(removal), victim, scheme, seed, budget)
            for label, removal in COPIES.items()
        }

    def extracted(self, victim: int, scheme: str, *, seed: int = 0, budget: int = 50) -> float:
        """Matching rate of a net that was trained on the victim's labels."""
        return self._rate(self.victim(victim).then(EXTRACTED), victim, scheme, seed, budget)

    def strangers(self, victim: int, scheme: str, *, seed: int = 0, budget: int = 50) -> list[float]:
        """Matching rates of the independent models."""
        return [self._rate(recipe, victim, scheme, seed, budget) for recipe in self.independents]

    def _rate(self, recipe: Recipe, victim: int, scheme: str, seed: int, budget: int) -> float:
        fingerprint = self.fingerprint(victim, scheme, seed, budget)
        return SCHEMES.make(scheme).observe(fingerprint, self.oracle(recipe)).similarity

    def _fingerprint(self, victim: int, scheme: str, seed: int, budget: int):
        made = SCHEMES.make(scheme)
        data = SOURCES.make(DATA).load(made.part)
        return made.extract(self.oracle(self.victim(victim)), data, budget=budget, seed=seed)

    def _oracle(self, recipe: Recipe):
        self.zoo.build([recipe], workers=1)
        return self.zoo.oracle(recipe)


@pytest.fixture(scope="session")
def small_zoo(tmp_path_factory):
    return SmallZoo(tmp_path_factory.mktemp("claims"))
