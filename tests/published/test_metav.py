"""What Pan et al. claim of MetaV (KDD 2022), over two victims with three extractions of each task.

The verifier's copies were fine-tuned or pruned; those of the test were also quantised, retrained and extracted.
"""

from __future__ import annotations

import numpy as np
import pytest
from conftest import COPIES, EXTRACTED, FILTERS, QUANTISED

from whorl.data import SOURCES
from whorl.metrics import auc
from whorl.oracles.pool import Pool
from whorl.schemes import SCHEMES
from whorl.zoo.recipe import parse_recipe

pytestmark = pytest.mark.published

METAV = "metav(steps=30)"
FIXED = "metav(steps=30, learning_rate=0.0)"
FAMILIES = ("fine-tune", "prune")
TUNED = {label: COPIES[label] for label in ("FTLL", "FTAL", "WP p=.3")} | FILTERS
CHANGED = {label: COPIES[label] for label in ("RTLL", "RTAL")} | QUANTISED


@pytest.fixture(scope="module")
def runs(small_zoo):
    return [(victim, seed) for victim in small_zoo.victims for seed in small_zoo.seeds]


@pytest.fixture(scope="module")
def similarities(small_zoo, runs):
    """(scheme, removals) to the similarities of those copies and of the independent models, run by run."""

    def of(scheme, removals):
        pairs = [
            (
                small_zoo.copies(victim, scheme, seed=seed, removals=removals, families=FAMILIES),
                small_zoo.strangers(victim, scheme, seed=seed, families=FAMILIES),
            )
            for victim, seed in runs
        ]
        return [(list(copies.values()), strangers) for copies, strangers in pairs]

    return of


def areas(pairs):
    return np.array([auc(*pair) for pair in pairs])


@pytest.mark.parametrize("removals", [TUNED, CHANGED], ids=["tuned or pruned", "retrained or quantised"])
def test_every_copy_is_more_alike_than_every_independent_model(similarities, removals):
    for copies, strangers in similarities(METAV, removals):
        assert min(copies) > max(strangers)


def test_extracted_copies_are_recognised(similarities):
    found = areas(similarities(METAV, EXTRACTED))
    assert found.min() > 0.75
    assert found.mean() > 0.9


def test_one_half_is_no_threshold_for_families_that_the_pool_lacks(similarities):
    """The paper flags V > 1/2; most extracted copies lie below, and above every independent model."""
    pairs = similarities(METAV, EXTRACTED)
    assert np.mean([np.mean(np.array(copies) > 0.5) for copies, _ in pairs]) < 0.5
    assert np.mean([np.mean(np.array(copies) > max(strangers)) for copies, strangers in pairs]) > 0.5


@pytest.mark.parametrize("removals", [CHANGED, EXTRACTED], ids=["retrained or quantised", "extracted"])
def test_training_the_inputs_too_beats_training_the_verifier_alone(similarities, removals):
    joint, alone = (areas(similarities(scheme, removals)) for scheme in (METAV, FIXED))
    assert (joint >= alone).all()
    assert joint.mean() > alone.mean()


TASKS = {
    "regression": "train(mlp_regressor, diabetes, epochs=10, batch=25, learning_rate=0.02, seed={})",
    "generation": "train(vae, digits(size=8), epochs=30, batch=25, learning_rate=0.02, seed={})",
}
INPUTS = {"regression": "diabetes", "generation": "noise(shape=[1, 1, 8], count=100)"}
STUDENTS = {
    "regression": "extract(mlp_regressor, outputs, epochs=30, learning_rate=0.05, seed=9)",
    "generation": "extract(vae, outputs, epochs=10, seed=9)",
}
TUNE = "epochs=5, learning_rate=0.005"
NEAR = (f"fine_tune(all, {TUNE})", f"prune_weights(3/10, {TUNE})", "quantise(int8)", "quantise(int4)")
SHADOWS = [
    f"{removal}, part=calibration, {TUNE}, seed={seed})"
    for removal in ("fine_tune(all", "prune_weights(4/10")
    for seed in (800, 801)
]


@pytest.fixture(scope="module", params=TASKS)
def other_task(request, small_zoo):
    """For each run on a model that is no classifier: the similarities of near copies, of a student, of strangers."""

    def model(seed, removal=""):
        recipe = parse_recipe(TASKS[request.param].format(seed))
        return small_zoo.oracle(recipe.then(removal) if removal else recipe)

    def run(victim, seed):
        pool = Pool({"tuned": [model(victim, each) for each in SHADOWS]}, [model(k) for k in range(300, 306)])
        fingerprint = scheme.extract(model(victim), data, budget=40, seed=seed, pool=pool)
        suspects = [*NEAR, STUDENTS[request.param]]
        *near, student = [scheme.observe(fingerprint, model(victim, each)).similarity for each in suspects]
        return near, student, [scheme.observe(fingerprint, model(k)).similarity for k in range(100, 106)]

    scheme, data = SCHEMES.make("metav"), SOURCES.make(INPUTS[request.param]).load("queries")
    return [run(victim, seed) for victim in small_zoo.victims for seed in small_zoo.seeds]


def test_models_that_are_no_classifiers_are_recognised_too(other_task):
    for near, _, strangers in other_task:
        assert min(near) > max(strangers)


def test_their_students_are_more_alike_than_most_strangers(other_task):
    assert np.mean([auc([student], strangers) for _, student, strangers in other_task]) > 0.65
