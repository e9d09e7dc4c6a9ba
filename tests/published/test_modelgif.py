"""What Song et al. claim of ModelGiF (ICCV 2023), and what their choice of reference pictures is worth.

Similarities by picture of all models are measured once per victim; a seed is a draw of pictures.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from thieves import COPIES, EXTRACTED, FILTERS

from whorl.metrics import auc
from whorl.schemes import SCHEMES
from whorl.types import Access

pytestmark = pytest.mark.published

MODELGIF = "modelgif(nodes=8)"
PICTURES = 100  # of the 180 held out
COUNTS = (1, 4, 16, 64)
DRAWS = 40


@pytest.fixture(scope="module")
def alike(small_zoo):
    """Victim to group to similarities ``[models, pictures]``."""
    scheme = SCHEMES.make(MODELGIF)

    def measure(victim):
        fingerprint = small_zoo.fingerprint(victim, MODELGIF, 0, PICTURES)
        own = small_zoo.victim(victim)
        groups = {
            "tuned": [own.then(removal) for removal in COPIES.values()],
            "pruned": [own.then(removal) for removal in FILTERS.values()],
            "extracted": [own.then(removal) for removal in EXTRACTED.values()],
            "independent": small_zoo.nets,
        }
        oracles = {name: [small_zoo.oracle(recipe) for recipe in recipes] for name, recipes in groups.items()}
        oracles["pool"] = small_zoo.pool(victim, None).independent
        return {
            name: np.stack([scheme.observe(fingerprint, each).per_query.numpy() for each in models])
            for name, models in oracles.items()
        }

    return {victim: measure(victim) for victim in small_zoo.victims}


def quality(groups, kind, pictures):
    """AUC of copies of one kind against independent models on some pictures."""
    return auc(groups[kind][:, pictures].mean(1), groups["independent"][:, pictures].mean(1))


def draws(groups, count, candidates=1):
    """Random pictures, ``candidates`` times as many as ``count``."""
    generator = np.random.default_rng(0)
    total = groups["independent"].shape[1]
    return [generator.permutation(total)[: min(total, candidates * count)] for _ in range(DRAWS)]


def mean_quality(groups, kind, count):
    return float(np.mean([quality(groups, kind, pictures) for pictures in draws(groups, count)]))


def furthest(groups, chosen_by, count):
    """The pictures, of four times as many, where these models are least like the victim: the authors' choice."""
    by = groups[chosen_by].mean(0)
    return [pictures[by[pictures].argsort()[:count]] for pictures in draws(groups, count, candidates=4)]


@pytest.mark.parametrize("kind", ["tuned", "pruned"])
def test_it_recognises_tuned_and_pruned_copies_better_with_more_pictures(alike, kind):
    for groups in alike.values():
        curve = [mean_quality(groups, kind, count) for count in COUNTS]
        assert curve[-1] == 1
        assert all(more >= less - 0.005 for less, more in pairwise(curve))
        assert curve[0] > 0.9, "a single picture already tells nearly every pair apart"
    singles = [mean_quality(groups, kind, 1) for groups in alike.values()]
    assert np.mean(singles) < 1


def test_every_tuned_or_pruned_copy_is_nearer_than_every_independent_model_on_16_pictures(small_zoo):
    for victim in small_zoo.victims:
        for seed in small_zoo.seeds:
            copies = small_zoo.copies(victim, MODELGIF, seed=seed, budget=16, removals=COPIES | FILTERS)
            assert min(copies.values()) > max(small_zoo.strangers(victim, MODELGIF, seed=seed, budget=16))


def test_extraction_leaves_other_gradients(alike):
    """The paper has AUC 1 with 256 pictures; here thieves' nets are as far from the victim as other nets are."""
    for groups in alike.values():
        assert mean_quality(groups, "extracted", 64) < 0.75
        assert np.abs(groups["extracted"].mean() - groups["independent"].mean()) < 0.1


def test_pictures_chosen_by_the_test_negatives_flatter_the_result(alike):
    """The leak: those models look further away than models nobody looked at while choosing."""
    gains = []
    for groups in alike.values():
        by_test, by_pool = furthest(groups, "independent", 16), furthest(groups, "pool", 16)

        def null(chosen, groups=groups):
            return np.mean([groups["independent"][:, pictures].mean() for pictures in chosen])

        assert null(by_test) < null(by_pool) - 0.005
        gains.append(
            np.mean([quality(groups, "extracted", pictures) for pictures in by_test])
            - np.mean([quality(groups, "extracted", pictures) for pictures in by_pool])
        )
    assert np.mean(gains) > 0.03


def test_models_without_gradients_are_not_compared(small_zoo):
    assert all(small_zoo.oracle(recipe).access >= Access.GRADIENTS for recipe in small_zoo.nets)
