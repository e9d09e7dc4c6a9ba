"""Inputs and verifier against what they are trained for."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from whorl.errors import AccessRefused, UsageError
from whorl.oracles.pool import Pool
from whorl.queries.meta import JointlyTrained, verifier_loss
from whorl.queries.perceptron import respond, signals, unpack
from whorl.testing import tiny_data, tiny_pool, tiny_victim
from whorl.types import Access


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pool():
    return tiny_pool(count=2)


def sample(pool, *, budget=8, seed=0, **settings):
    sampler = JointlyTrained(**{"steps": 10} | settings)
    return sampler.sample_with(tiny_victim(), tiny_data("queries"), pool, budget=budget, generator=generator(seed))


def logits(queries, models):
    answers = torch.stack([signals(model.scores(queries.inputs), model.task) for model in models])
    seen = (answers - queries.shared["centre"]) / queries.shared["scale"]
    return respond(unpack(queries.shared, "verifier"), seen.flatten(1)).squeeze(1)


def test_loss_is_the_papers_where_both_sides_are_equally_many():
    values, derived = torch.randn(8, generator=generator()), torch.arange(8) < 4
    expected = binary_cross_entropy_with_logits(values, derived.float())
    torch.testing.assert_close(verifier_loss(values, derived), expected)


def test_loss_weighs_both_sides_alike():
    values = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, -2.0])
    twice = verifier_loss(values, torch.arange(6) < 5)
    once = verifier_loss(values[4:], torch.tensor([True, False]))
    torch.testing.assert_close(twice, once)


@pytest.mark.parametrize("start", ["pictures", "noise"])
def test_the_verifier_learns_to_tell_its_shadow_models_apart(pool, start):
    queries = sample(pool, steps=60, start=start)
    assert queries.notes["loss"] < 0.1 * math.log(2)
    derived, independent = logits(queries, [tiny_victim(), *pool.copies]), logits(queries, pool.independent)
    assert float(derived.min()) > 0 > float(independent.max())


def test_no_rate_leaves_the_pictures_and_training_moves_them(pool):
    fixed, moved = sample(pool, learning_rate=0.0), sample(pool)
    pictures = tiny_data("queries").inputs().flatten(1)
    assert float(torch.cdist(fixed.inputs.flatten(1), pictures).amin(1).max()) < 1e-6
    assert 0 < float((moved.inputs - fixed.inputs).abs().max()) <= 10 * 0.02
    assert 0 <= float(moved.inputs.min()) <= float(moved.inputs.max()) <= 1


def test_first_answers_are_standardised(pool):
    queries = sample(pool, learning_rate=0.0)
    models = [tiny_victim(), *pool.copies, *pool.independent]
    answers = torch.stack([model.probabilities(queries.inputs) for model in models])
    seen = ((answers - queries.shared["centre"]) / queries.shared["scale"]).flatten(0, 1)
    torch.testing.assert_close(seen.mean(0), torch.zeros(10), rtol=0, atol=1e-4)
    torch.testing.assert_close(seen.std(0), torch.ones(10), rtol=0, atol=1e-3)


def test_what_is_kept_hangs_on_no_graph(pool):
    queries = sample(pool)
    assert not any(each.requires_grad for each in (queries.inputs, *queries.shared.values()))


def test_wrong_starts_pools_and_shadow_models_are_refused(pool):
    with pytest.raises(UsageError, match="pictures or noise, not zeros"):
        sample(pool, start="zeros")
    with pytest.raises(UsageError, match="at least 1 copies"):
        sample(Pool({}, pool.independent))
    with pytest.raises(AccessRefused, match="LOGITS"):
        sample(Pool(pool.derived, [*pool.independent, tiny_victim(Access.LOGITS, seed=5)]))
