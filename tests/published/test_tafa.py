"""What Pan et al. claim of TAFA (ESORICS 2021, abstract): nets of ReLUs of any task, without data.

For each task two victims, three fingerprints each, four copies and six models of others that learnt the same data.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from whorl.schemes import SCHEMES
from whorl.zoo.recipe import parse_recipe

pytestmark = pytest.mark.published

TASKS = {
    "classification": "train(mlp(width=64, depth=2), digits(size=8), epochs=8, batch=50, seed={})",
    "regression": "train(mlp_regressor, diabetes, epochs=10, batch=25, learning_rate=0.02, seed={})",
    "generation": "train(vae, digits(size=8), epochs=30, batch=25, learning_rate=0.02, seed={})",
}
COPIES = (
    "fine_tune(last, epochs=5, learning_rate=0.005)",
    "fine_tune(all, epochs=5, learning_rate=0.005)",
    "prune_weights(3/10, epochs=5, learning_rate=0.005)",
    "prune_filters(1/8, epochs=5, learning_rate=0.005)",
)
STUDENT = {
    "classification": "extract('mlp(width=64, depth=2)', probabilities, epochs=8, seed=9)",
    "regression": "extract(mlp_regressor, outputs, epochs=30, learning_rate=0.05, seed=9)",
    "generation": "extract(vae, outputs, epochs=10, seed=9)",
}
VICTIMS, SEEDS, STRANGERS = (0, 1), (0, 1, 2), range(100, 106)
SCHEME = SCHEMES.make("tafa")


@pytest.fixture(scope="module", params=TASKS)
def task(request):
    return request.param


@pytest.fixture(scope="module")
def models(small_zoo, task):
    """A seed, and a removal after it, to the model."""

    def model(seed, removal=""):
        recipe = parse_recipe(TASKS[task].format(seed))
        return small_zoo.oracle(recipe.then(removal) if removal else recipe)

    return model


@pytest.fixture(scope="module")
def fingerprints(models):
    return {(victim, seed): SCHEME.extract(models(victim), None, seed=seed) for victim in VICTIMS for seed in SEEDS}


@pytest.fixture(scope="module")
def rates(models, fingerprints):
    """(victim, seed) to the similarities of copies, and of independent models."""
    return {
        (victim, seed): (
            [SCHEME.observe(fingerprint, models(victim, removal)).similarity for removal in COPIES],
            [SCHEME.observe(fingerprint, models(stranger)).similarity for stranger in STRANGERS],
        )
        for (victim, seed), fingerprint in fingerprints.items()
    }


def test_kinks_are_exact_on_the_victim(models, fingerprints, task):
    """The line's second difference is the jump of the derivative along it, which forward differentiation gives."""
    for (victim, _), fingerprint in fingerprints.items():
        assert models(victim).task == fingerprint.task == task
        net, queries = models(victim).module, fingerprint.queries
        inputs, middle = queries.inputs.double(), queries.inputs.shape[1] // 2
        step = inputs[:, middle + 1] - inputs[:, middle]
        spacing = step.flatten(1).norm(dim=1)
        copy = torch.func.functional_call
        weights = {name: tensor.double() for name, tensor in net.state_dict().items()}

        def slope(points, net=net, weights=weights, step=step, copy=copy):
            return torch.func.jvp(lambda x: copy(net, weights, (x,)), (points,), (step,))[1]

        centre = inputs[:, middle]
        jump = slope(centre + step / 2) - slope(centre - step / 2)
        answers = copy(net, weights, (inputs.flatten(0, 1),)).unflatten(0, inputs.shape[:2]).detach()
        bend = answers.diff(n=2, dim=1)[:, middle - 1]
        if task == "classification":
            jump, bend = (each - each.mean(1, keepdim=True) for each in (jump, bend))
        error = (bend - jump).norm(dim=1) / jump.norm(dim=1)
        assert float(error.max()) <= 1e-4
        stored = queries.companions["kink"] * spacing[:, None]
        assert float(((stored - jump).norm(dim=1) / jump.norm(dim=1)).max()) <= 1e-4


def test_copies_are_far_above_independent_models(rates):
    for copies, strangers in rates.values():
        assert min(copies) > 1.5 * max(strangers)
        assert np.mean(copies) > 4 * np.mean(strangers)


def test_tuning_the_last_layer_or_all_leaves_most_of_the_bends(rates):
    for copies, _ in rates.values():
        assert copies[0] > 0.85
        assert copies[1] > 0.5


def test_extraction_defeats_it(models, fingerprints, rates, task):
    """A student has hidden units of its own: no more alike than models of others."""
    for (victim, seed), fingerprint in fingerprints.items():
        copies, strangers = rates[victim, seed]
        student = SCHEME.observe(fingerprint, models(victim, STUDENT[task])).similarity
        assert student < 0.5 * min(copies)
        assert student < 2 * max(strangers)
