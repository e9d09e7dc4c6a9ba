"""DeepJudge's adversarial tests."""

from __future__ import annotations

import foolbox
import pytest
import torch

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.queries.judged import Judged
from whorl.testing import tiny_data, tiny_victim

EPSILON = 0.15


@pytest.fixture(scope="module")
def victim():
    return tiny_victim()


@pytest.fixture(scope="module")
def data():
    return tiny_data("queries")


def sampled(victim, data, budget=20, seed=0, **settings):
    settings = {"epsilon": EPSILON, "step": 0.03} | settings
    return Judged(**settings).sample(victim, data, budget=budget, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("steps", [1, 10])
def test_every_test_fools_the_victim_near_a_picture_that_it_gets_right(victim, data, steps):
    queries = sampled(victim, data, steps=steps)
    seeds, truth = queries.companions["seeds"], queries.companions["truth"]
    assert torch.equal(victim.labels(seeds), truth)
    assert bool((victim.labels(queries.inputs) != truth).all())
    assert float((queries.inputs - seeds).abs().max()) <= EPSILON + 1e-6
    assert len(seeds.unique(dim=0)) == len(seeds)


def test_seeds_are_the_most_certain_pictures(victim, data):
    seeds = sampled(victim, data, budget=15, seeds=30).companions["seeds"]
    certainty = victim.probabilities(data.inputs()).square().sum(1)
    right = victim.labels(data.inputs()) == data.labels
    least = certainty[right].sort(descending=True).values[29]
    assert float(victim.probabilities(seeds).square().sum(1).min()) >= float(least) - 1e-6


def test_one_step_is_foolboxs_fgsm(victim, data):
    queries = sampled(victim, data, steps=1)
    model = foolbox.PyTorchModel(victim.differentiable(), bounds=(0, 1))
    attack = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    raw, _, _ = attack(model, queries.companions["seeds"], queries.companions["truth"], epsilons=EPSILON)
    torch.testing.assert_close(queries.inputs, raw, rtol=0, atol=1e-6)


def test_too_few_tests_are_refused(victim, data):
    with pytest.raises(UsageError, match="larger epsilon"):
        sampled(victim, data, epsilon=1e-4)
    few = Dataset(data.images[:10], data.labels[:10], data.classes)
    with pytest.raises(UsageError, match="20 are asked for"):
        sampled(victim, few)
