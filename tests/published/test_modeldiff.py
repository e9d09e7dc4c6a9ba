"""What Li et al. claim of ModelDiff (ISSTA 2021): reuse is seen across tasks, with or without gradients."""

from __future__ import annotations

import numpy as np
import pytest
from transferred import HEADS, transfers

from whorl.schemes import SCHEMES

pytestmark = pytest.mark.published

BUDGET = 100


WHITE_BOX, BLACK_BOX = "modeldiff", "modeldiff-black-box"


@pytest.fixture(scope="module")
def similarities(small_zoo):
    """For each scheme, by victim and seed: of tuned copies, of copies for so many classes, of independent models.

    Independent models are those of the small zoo, of all classes, and copies of two others with the new heads.
    """
    cases = [(victim, seed) for victim in small_zoo.victims for seed in small_zoo.seeds]
    return {name: [measured(small_zoo, name, *case) for case in cases] for name in (WHITE_BOX, BLACK_BOX)}


def measured(small_zoo, name, victim, seed):
    fingerprint = small_zoo.fingerprint(victim, name, seed, BUDGET, None)

    def observe(models):
        return [SCHEMES.make(name).observe(fingerprint, model).similarity for model in models]

    own, *others = map(small_zoo.oracle, (small_zoo.victim(victim), small_zoo.victim(1 - victim), small_zoo.nets[0]))
    strangers = small_zoo.strangers(victim, name, seed=seed, budget=BUDGET)
    strangers += observe(model for other in others for classes in HEADS for model in transfers(other, classes))
    reused = {classes: observe(transfers(own, classes)) for classes in HEADS}
    return list(small_zoo.copies(victim, name, seed=seed, budget=BUDGET).values()), reused, strangers


def auc(copies, strangers):
    return float(np.mean(np.array(copies)[:, None] > np.array(strangers)))


@pytest.mark.parametrize("scheme", [WHITE_BOX, BLACK_BOX])
def test_every_tuned_retrained_or_pruned_copy_is_nearer_than_every_independent_model(similarities, scheme):
    for copies, _, strangers in similarities[scheme]:
        assert min(copies) > max(strangers)


def test_copies_for_five_classes_are_nearer_than_every_independent_model(similarities):
    for _, reused, strangers in similarities[WHITE_BOX]:
        assert min(reused[5]) > max(strangers)


@pytest.mark.parametrize(("scheme", "classes"), [(WHITE_BOX, 2), (BLACK_BOX, 5), (BLACK_BOX, 2)])
def test_copies_for_other_classes_are_nearer_than_nearly_every_independent_model(similarities, scheme, classes):
    ranks = [auc(reused[classes], strangers) for _, reused, strangers in similarities[scheme]]
    assert np.mean(ranks) >= 0.9
    assert min(ranks) >= 0.8
