"""What Peng et al. claim of UAP (CVPR 2022), over two victims with three extractions.

The encoder's copies were fine-tuned or pruned; those of the test were also quantised, retrained and extracted.
"""

from __future__ import annotations

import numpy as np
import pytest
from conftest import COPIES, EXTRACTED, QUANTISED

from whorl.data import SOURCES
from whorl.metrics import auc

pytestmark = pytest.mark.published

UAP = "uap(epochs=10)"
BARE = "uap(epochs=10, encode=false)"
FAMILIES = ("fine-tune", "prune")
TUNED = {label: COPIES[label] for label in ("FTLL", "FTAL", "WP p=.3")}
UNSEEN = {label: COPIES[label] for label in ("RTLL", "RTAL")} | QUANTISED | EXTRACTED


@pytest.fixture(scope="module")
def runs(small_zoo):
    return [(victim, seed) for victim in small_zoo.victims for seed in small_zoo.seeds]


@pytest.fixture(scope="module")
def areas(small_zoo, runs):
    """(scheme, removals) to the AUC ``[runs]`` of those copies against the independent models."""

    def area(scheme, removals, victim, seed):
        copies = small_zoo.copies(victim, scheme, seed=seed, removals=removals, families=FAMILIES)
        return auc(list(copies.values()), small_zoo.strangers(victim, scheme, seed=seed, families=FAMILIES))

    kinds = {"tuned": TUNED, "quantised": QUANTISED, "extracted": EXTRACTED, "unseen": UNSEEN}
    return {
        (scheme, kind): np.array([area(scheme, removals, *run) for run in runs])
        for scheme in (UAP, BARE)
        for kind, removals in kinds.items()
    }


@pytest.fixture(scope="module")
def fooled(small_zoo, runs):
    """For each run, the share of held-out pictures whose label the perturbation changes: copies, independent models."""
    images = SOURCES.make("digits(size=16)").load("test").inputs()

    def rate(recipe, change):
        oracle = small_zoo.oracle(recipe)
        return float((oracle.labels((images + change).clamp(0, 1)) != oracle.labels(images)).float().mean())

    def rates(victim, seed):
        change = small_zoo.fingerprint(victim, UAP, seed, 50, FAMILIES).queries.shared["perturbation"]
        copies = [small_zoo.victim(victim).then(removal) for removal in (TUNED | UNSEEN).values()]
        return [[rate(recipe, change) for recipe in group] for group in (copies, small_zoo.independents)]

    return [rates(*run) for run in runs]


def test_the_victims_perturbation_fools_its_copies_far_more_than_independent_models(fooled):
    for copies, strangers in fooled:
        assert np.mean(copies) > 3 * np.mean(strangers)
        assert min(copies) > 2 * np.mean(strangers)


def test_every_tuned_pruned_or_quantised_copy_is_more_alike_than_every_independent_model(areas):
    assert (areas[UAP, "tuned"] == 1).all()
    assert (areas[UAP, "quantised"] == 1).all()


def test_copies_of_other_families_than_the_encoders_are_recognised(areas):
    assert areas[UAP, "unseen"].min() > 0.7
    assert areas[UAP, "unseen"].mean() > 0.8


def test_the_encoder_is_what_recognises_them(areas):
    assert (areas[UAP, "unseen"] > areas[BARE, "unseen"] + 0.1).all()


def test_without_the_encoder_extracted_copies_look_less_alike_than_strangers(areas):
    assert areas[BARE, "extracted"].mean() < 0.2 < 0.5 < areas[UAP, "extracted"].min()
