"""What Maini, Yaghini and Papernot claim of dataset inference (ICLR 2021), and what it cannot tell.

The small zoo's nets hardly know their training pictures from others, so these learn few pictures by heart.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from whorl.data import SOURCES
from whorl.metrics import auc
from whorl.schemes import SCHEMES
from whorl.zoo.recipe import parse_recipe

pytestmark = pytest.mark.published

DATA = "textures(images=400)"
SETTINGS = f"{DATA}, epochs=20, batch=50, shift=0"
TUNED = "fine_tune(all, epochs=4, learning_rate=0.01)"
DISTILLED = "distil(resnet8(width=8), part=victim, epochs=20, seed=9)"  # the thief has the victim's pictures
EXTRACTED = {
    "labels": "extract(resnet8(width=8), labels, epochs=20, seed=9)",
    "probabilities": "extract(resnet8(width=8), probabilities, epochs=20, seed=9)",
}
SAME = [f"train({net}, {SETTINGS}, seed={seed})" for net, seed in (("resnet8(width=8)", 100), ("vgg(width=8)", 110))]
OTHER = [
    f"train({net}, {SETTINGS}, part=calibration, seed={seed})"
    for net, seed in (("resnet8(width=8)", 200), ("resnet8(width=8)", 201), ("vgg(width=8)", 210))
]
WALK = "dataset-inference(fit=300, directions=2)"
DESCENT = "dataset-inference-white-box(fit=60, targets=2, iterations=15, linf=0.02, l2=0.2, l1=2.0)"
IPGUARD = "ipguard(iterations=100, learning_rate=0.01)"


class Similarities:
    """Similarities of copies and of independent models, over two victims with three extractions each."""

    def __init__(self, small_zoo, scheme, budget):
        self.zoo, self.scheme = small_zoo, SCHEMES.make(scheme)
        self.victims = [parse_recipe(f"train(resnet8(width=8), {SETTINGS}, seed={seed})") for seed in small_zoo.victims]
        self.observe = cache(self._observe)
        pictures = SOURCES.make(DATA).load(self.scheme.part)
        self.made = [
            [self.scheme.extract(small_zoo.oracle(victim), pictures, budget=budget, seed=seed) for seed in (0, 1, 2)]
            for victim in self.victims
        ]

    def of(self, removal):
        """Of the victims' copies ``[victim, seed]``."""
        return np.array(
            [
                [self.observe(victim, seed, recipe.then(removal)) for seed in range(3)]
                for victim, recipe in enumerate(self.victims)
            ]
        )

    def strangers(self, recipes):
        """Of independent models ``[victim, seed, model]``."""
        models = [parse_recipe(recipe) for recipe in recipes]
        found = [[[self.observe(victim, seed, each) for each in models] for seed in range(3)] for victim in range(2)]
        return np.array(found)

    def _observe(self, victim, seed, recipe):
        return self.scheme.observe(self.made[victim][seed], self.zoo.oracle(recipe)).similarity


@pytest.fixture(scope="module")
def walk(small_zoo):
    return Similarities(small_zoo, WALK, 150)


def mean_auc(copies, strangers):
    """Over fingerprints, of copies (each ``[victim, seed]``) against independent models ``[victim, seed, model]``."""
    return np.mean([auc(np.array([each[at] for each in copies]), strangers[at]) for at in np.ndindex(2, 3)])


def test_it_recognises_whoever_learned_the_pictures(walk):
    other = walk.strangers(OTHER)
    assert other.max() < 3
    assert walk.of(TUNED).min() > other.max() + 1
    assert (walk.of(DISTILLED).mean(1) > other.mean((1, 2)) + 1).all()


def test_it_recognises_extracted_models_that_ipguard_misses(walk, small_zoo):
    boundary = Similarities(small_zoo, IPGUARD, 50)
    found, missed = (
        mean_auc([scheme.of(removal) for removal in EXTRACTED.values()], scheme.strangers(OTHER))
        for scheme in (walk, boundary)
    )
    assert found > 0.5, "chance"
    assert found > missed + 0.3


def test_it_accuses_whoever_learned_from_the_same_pictures(walk):
    """False alarms as a claim of lineage: innocent models with the victim's data score above its copies."""
    same = walk.strangers(SAME)
    assert (same.min(2) > walk.of(TUNED)).all()
    assert (same.min(2) > walk.strangers(OTHER).max(2) + 3).all()


def test_gradients_see_the_same(small_zoo):
    descent = Similarities(small_zoo, DESCENT, 100)
    other, same, tuned = descent.strangers(OTHER[-1:]), descent.strangers(SAME[:1]), descent.of(TUNED)
    assert tuned.min() > other.max()
    assert same.min() > other.max() + 3
