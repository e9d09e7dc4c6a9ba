"""Conferrable examples: the definition by hand, halves that share nothing, and points better than their seeds."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.oracles.pool import Pool
from whorl.queries.conferrable import Conferrable, conferrability, divide_pool
from whorl.testing import tiny_data, tiny_victim
from whorl.testing.nets import tiny_pool
from whorl.types import Access

SETTINGS = {"iterations": 15, "learning_rate": 0.02, "epsilon": 0.2, "candidates": 2.0}


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def names(models):
    return {model.digest for model in models}


@pytest.fixture(scope="module")
def pool():
    return tiny_pool()


@pytest.fixture(scope="module")
def queries(pool):
    return sampled(pool)


def sampled(pool, victim=None, budget=20, **settings):
    scheme = Conferrable(**(SETTINGS | settings))
    return scheme.sample_with(victim or tiny_victim(), tiny_data("victim"), pool, budget=budget, generator=chance())


def test_conferrability_by_hand():
    answers = {"a": [1, 1, 1, 0], "b": [1, 0, 1, 0], "r": [1, 0, 0, 1], "s": [0, 0, 0, 1], "t": [0, 0, 1, 1]}
    models = {name: Says(torch.tensor(labels)) for name, labels in answers.items()}
    found = conferrability(
        [models["a"], models["b"]],
        [models["r"], models["s"], models["t"]],
        torch.zeros(4, 1, 2, 2),
        torch.ones(4).long(),
    )
    assert found.tolist() == pytest.approx([1 * 2 / 3, 0.5 * 1, 1 * 2 / 3, 0])


class Says:
    """Gives the labels it was made with."""

    def __init__(self, answers):
        self.answers = answers

    def labels(self, points):
        return self.answers[: len(points)]


def test_halves_share_no_model_and_hold_every_family(pool):
    halves = divide_pool(pool, chance())
    for position, whole in enumerate((pool.copies, pool.independent)):
        used, held_out = halves.used[position], halves.held_out[position]
        assert not names(used) & names(held_out)
        assert names(used) | names(held_out) == names(whole)
        assert abs(len(used) - len(held_out)) <= 1
    for models in pool.derived.values():
        assert names(models) & names(halves.used[0])
        assert names(models) & names(halves.held_out[0])


def test_halves_are_drawn_by_the_generator(pool):
    first, again, *others = (names(divide_pool(pool, chance(seed)).used[0]) for seed in (0, 0, 1, 2, 3, 4))
    assert first == again
    assert any(other != first for other in others)


def test_points_are_more_conferrable_than_their_seeds(pool, queries):
    victim, halves = tiny_victim(), divide_pool(pool, chance())
    seeds = queries.companions["seeds"]
    for models in (halves.used, halves.held_out):
        before = conferrability(*models, seeds, victim.labels(seeds)).mean()
        after = conferrability(*models, queries.inputs, victim.labels(queries.inputs)).mean()
        assert after > before + 0.1


def test_what_is_kept_are_the_best_on_held_out_models(pool, queries):
    victim, halves = tiny_victim(), divide_pool(pool, chance())
    expected = conferrability(*halves.held_out, queries.inputs, victim.labels(queries.inputs))
    assert torch.equal(queries.companions["conferrability"], expected)
    assert queries.notes["kept_above"] == float(expected.min())
    assert float(expected.mean()) >= queries.notes["conferrability_held_out"]
    assert queries.notes["models_used"] == [3, 3]
    assert queries.notes["models_held_out"] == [3, 3]


def test_points_stay_in_reach(queries):
    assert float((queries.inputs - queries.companions["seeds"]).abs().max()) <= 0.2 + 1e-6


def test_each_term_of_the_loss_does_its_part(pool, queries):
    """Without the term that leaves the seed's label and without the one that confers, points stay where they are."""
    still = sampled(pool, conferring=0.0, moving=0.0)
    assert still.notes["crossed"] < 0.3 < queries.notes["crossed"]
    aimless = sampled(pool, conferring=0.0, agreeing=0.0)
    assert aimless.notes["conferrability_seen"] < queries.notes["conferrability_seen"]


def test_a_pool_too_small_to_be_halved_is_refused(pool):
    few = Pool({"prune": pool.copies[:1]}, pool.independent)
    with pytest.raises(UsageError, match="at least 2 copies"):
        sampled(few)


def test_shadow_models_with_other_answers_are_refused(pool):
    victim = tiny_victim(Access.GRADIENTS)
    victim.classes = 9
    with pytest.raises(UsageError, match="shadow model"):
        sampled(pool, victim)
