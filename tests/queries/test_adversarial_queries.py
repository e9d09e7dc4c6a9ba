"""FGSM and IGSM against foolbox on the same pictures."""

from __future__ import annotations

import foolbox
import pytest
import torch

from whorl.queries.adversarial import AdversarialPairs, NegativeAdversarialPairs, SignGradient
from whorl.testing import tiny_data, tiny_victim

EPSILON = 0.08


@pytest.fixture(scope="module")
def victim():
    return tiny_victim()


def sampled(victim, **settings):
    return SignGradient(epsilon=EPSILON, **settings).sample(
        victim, tiny_data("victim"), budget=40, generator=torch.Generator().manual_seed(0)
    )


def reference(attack, victim, queries):
    """What foolbox makes of the same seeds and the victim's own labels, on the same frozen copy."""
    model = foolbox.PyTorchModel(victim.differentiable(), bounds=(0, 1))
    raw, _, _ = attack(model, queries.companions["seeds"], queries.companions["source"], epsilons=EPSILON)
    return raw


def test_fgsm_is_foolboxs(victim):
    queries = sampled(victim)
    attack = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    torch.testing.assert_close(queries.inputs, reference(attack, victim, queries), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("steps", "step"), [(5, 0.03), (10, 0.008)])
def test_igsm_is_foolboxs(victim, steps, step):
    queries = sampled(victim, steps=steps, step=step)
    attack = foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=step, steps=steps, random_start=False)
    expected = reference(attack, victim, queries)
    # A gradient of nearly 0 may take either sign where sums run in another order; that changes single pixels.
    same = (queries.inputs - expected).abs() <= 1e-6
    assert float(same.float().mean()) > 0.999


def test_steps_of_several_are_a_tenth_of_epsilon(victim):
    assert torch.equal(sampled(victim, steps=4).inputs, sampled(victim, steps=4, step=EPSILON / 10).inputs)
    moved = (sampled(victim, steps=4).inputs - sampled(victim, steps=4).companions["seeds"]).abs()
    assert float(moved.max()) == pytest.approx(4 * EPSILON / 10, abs=1e-6)


@pytest.mark.parametrize("steps", [1, 20])
def test_within_epsilon_and_worse_for_the_victim(victim, steps):
    queries = sampled(victim, steps=steps)
    assert float((queries.inputs - queries.companions["seeds"]).abs().max()) <= EPSILON + 1e-6
    labels = victim.labels(queries.companions["seeds"])
    assert torch.equal(queries.companions["source"], labels), "the victim's own label, right or wrong"
    crossed = float((victim.labels(queries.inputs) != labels).float().mean())
    assert queries.notes["crossed"] == pytest.approx(crossed, abs=0.03)
    assert crossed > 0.2


def test_more_steps_cross_more_often(victim):
    assert sampled(victim, steps=20).notes["crossed"] >= sampled(victim).notes["crossed"]


def test_pairs_are_seed_and_adversarial_picture(victim):
    settings = {"budget": 20, "generator": torch.Generator().manual_seed(0)}
    pairs = AdversarialPairs(epsilon=EPSILON).sample(victim, tiny_data("victim"), **settings)
    alone = sampled(victim, steps=10)
    assert pairs.inputs.shape == (20, 2, 1, 8, 8)
    assert torch.equal(pairs.inputs[:, 0], alone.companions["seeds"][:20])
    assert float((pairs.inputs[:, 1] - pairs.inputs[:, 0]).abs().max()) <= EPSILON + 1e-6
    assert pairs.notes["crossed"] > 0.2


def test_seeds_of_negative_pairs_are_errors(victim):
    data = tiny_data("test")
    settings = {"budget": 5, "generator": torch.Generator().manual_seed(0)}
    pairs = NegativeAdversarialPairs(epsilon=EPSILON).sample(victim, data, **settings)
    rows = {picture.numpy().tobytes(): int(label) for picture, label in zip(data.inputs(), data.labels, strict=True)}
    seeds = pairs.inputs[:, 0]
    truth = [rows[seed.numpy().tobytes()] for seed in seeds]
    assert bool((victim.labels(seeds) != torch.tensor(truth)).all())
