"""A small zoo for claims: two victims on digits at 16 px, what thieves made of them, and models of others.

``WHORL_TEST_ZOO`` names a folder that keeps the models between runs; otherwise each run trains them once for all its
processes.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import pytest

from whorl.data import SOURCES
from whorl.oracles.pool import Pool
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
FILTERS = {f"FP c={count}/16": f"prune_filters({count}/16, {TUNE}, learning_rate=0.01)" for count in (2, 4, 6)}
QUANTISED = {kind: f"quantise({kind})" for kind in ("int8", "int4")}
# Seeds of their own: no thief starts from a victim's weights.
EXTRACTED = {
    "labels": "extract(resnet8(width=8), labels, epochs=8, seed=9)",
    "probabilities": "extract(resnet8(width=8), probabilities, epochs=8, seed=9)",
    "probabilities, VGG": "extract(vgg(width=8), probabilities, epochs=8, learning_rate=0.1, seed=9)",
    "distillation": "distil(vgg(width=8), temperature=4.0, epochs=8, learning_rate=0.05, seed=9)",
}
ALL = COPIES | FILTERS | QUANTISED | EXTRACTED
# Shadow models: other pictures, other seeds; whoever asks for disjoint families leaves some out.
SHADOWS = {
    "fine-tune": f"fine_tune(all, part=calibration, {TUNE}, learning_rate=0.01, seed={{}})",
    "retrain": f"retrain(all, part=calibration, {TUNE}, learning_rate=0.02, seed={{}})",
    "prune": f"prune_weights(4/10, part=calibration, {TUNE}, learning_rate=0.005, seed={{}})",
    "extract": "extract(resnet8(width=8), probabilities, part=calibration, epochs=8, seed={})",
}


class SmallZoo:
    """Similarities of copies and of independent models, by victim, scheme and seed of the extraction."""

    victims = (0, 1)
    seeds = (0, 1, 2)

    def __init__(self, folder: Path) -> None:
        self.zoo = Zoo(folder)
        self.nets = [
            *(parse_recipe(f"train(resnet8(width=8), {SETTINGS}, seed={seed})") for seed in range(100, 104)),
            *(parse_recipe(f"train(vgg(width=8), {SETTINGS}, seed={seed})") for seed in (110, 111)),
            *(parse_recipe(f"train(lenet5, {SETTINGS}, learning_rate=0.05, seed={seed})") for seed in (120, 121)),
        ]
        self.independents = [*self.nets, parse_recipe(f"train(random_forest(trees=50), {DATA}, seed=130)")]
        self.oracle = lru_cache(maxsize=128)(self._oracle)
        self.fingerprint = lru_cache(maxsize=64)(self._fingerprint)
        self.pool = lru_cache(maxsize=8)(self._pool)

    def victim(self, seed: int) -> Recipe:
        return parse_recipe(f"train(resnet8(width=8), {SETTINGS}, seed={seed})")

    def copies(self, victim: int, scheme: str, *, seed: int = 0, budget: int = 50, removals=None, families=None):
        """Label to similarity of each copy; by default those that the IPGuard paper claims to recognise."""
        return {
            label: self._rate(self.victim(victim).then(removal), victim, scheme, seed, budget, families)
            for label, removal in (removals or COPIES).items()
        }

    def extracted(self, victim: int, scheme: str, *, seed: int = 0, budget: int = 50) -> float:
        """Similarity of a net that was trained on the victim's labels."""
        return self._rate(self.victim(victim).then(EXTRACTED["labels"]), victim, scheme, seed, budget, None)

    def strangers(self, victim: int, scheme: str, *, seed: int = 0, budget: int = 50, families=None) -> list[float]:
        """Similarities of the independent models that grant what the scheme needs of a suspect."""
        needed = SCHEMES.make(scheme).needs_suspect
        known = [recipe for recipe in self.independents if self.oracle(recipe).access >= needed]
        return [self._rate(recipe, victim, scheme, seed, budget, families) for recipe in known]

    def _rate(self, recipe: Recipe, victim: int, scheme: str, seed: int, budget: int, families) -> float:
        fingerprint = self.fingerprint(victim, scheme, seed, budget, families)
        return SCHEMES.make(scheme).observe(fingerprint, self.oracle(recipe)).similarity

    def _fingerprint(self, victim: int, scheme: str, seed: int, budget: int, families: tuple[str, ...] | None = None):
        made = SCHEMES.make(scheme)
        pool = self.pool(victim, families) if made.needs_pool else None
        data = SOURCES.make(DATA).load(made.part)
        return made.extract(self.oracle(self.victim(victim)), data, budget=budget, seed=seed, pool=pool)

    def _pool(self, victim: int, families: tuple[str, ...] | None) -> Pool:
        """Two copies of each family of `SHADOWS` (or of those named), and eight independent nets."""
        derived = {
            family: [self.oracle(self.victim(victim).then(SHADOWS[family].format(seed))) for seed in (800, 801)]
            for family in families or SHADOWS
        }
        independent = [
            *(parse_recipe(f"train(resnet8(width=8), {SETTINGS}, seed={seed})") for seed in range(300, 305)),
            *(parse_recipe(f"train(vgg(width=8), {SETTINGS}, seed={seed})") for seed in (310, 311)),
            parse_recipe(f"train(lenet5, {SETTINGS}, learning_rate=0.05, seed=320)"),
        ]
        return Pool(derived, [self.oracle(recipe) for recipe in independent], [each.group for each in independent])

    def _oracle(self, recipe: Recipe):
        self.zoo.build([recipe], workers=1)
        return self.zoo.oracle(recipe)


@pytest.fixture(scope="session")
def small_zoo(tmp_path_factory, worker_id):
    kept = os.environ.get("WHORL_TEST_ZOO")
    base = tmp_path_factory.getbasetemp()
    return SmallZoo(Path(kept) if kept else (base if worker_id == "master" else base.parent) / "claims")
