"""Partners stay near their seeds, and the victim's answers move apart."""

from __future__ import annotations

import pytest
import torch

from whorl.queries.divergent import GradientPairs, MutatedPairs, spread
from whorl.testing import tiny_data, tiny_victim
from whorl.types import Access

SAMPLERS = [GradientPairs(iterations=5), MutatedPairs(iterations=20)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_spread_against_loops():
    outputs, home = torch.randn(2, 6, 4, generator=generator())
    divergence, diversity = spread(outputs, home)
    for row in range(6):
        others = [float((outputs[row] - outputs[other]).norm()) for other in range(6) if other != row]
        assert float(divergence[row]) == pytest.approx(float((outputs[row] - home[row]).norm()), rel=1e-5)
        assert float(diversity[row]) == pytest.approx(sum(others) / 5, rel=1e-5)


def test_one_output_has_no_other():
    assert float(spread(torch.ones(1, 3), torch.zeros(1, 3))[1]) == 0


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["gradient", "mutation"])
def test_pairs_are_pictures_of_the_data_with_partners_that_are_answered_otherwise(sampler):
    victim, data = tiny_victim(sampler.needs_victim), tiny_data("victim")
    queries = sampler.sample(victim, data, budget=12, generator=generator())
    assert queries.inputs.shape == (12, 2, 1, 8, 8)
    rows = {picture.numpy().tobytes() for picture in data.inputs()}
    seeds, partners = queries.inputs.unbind(1)
    assert all(seed.numpy().tobytes() in rows for seed in seeds)
    scores = [victim.scores(each) for each in (seeds, partners)]
    moved = (scores[0] - scores[1]).norm(dim=1)
    noise = seeds + sampler.epsilon * (2 * torch.rand(seeds.shape, generator=generator()) - 1)
    by_chance = (scores[0] - victim.scores(noise.clamp(0, 1))).norm(dim=1)
    assert float(moved.mean()) > 1.5 * float(by_chance.mean())
    assert queries.notes["divergence"] == pytest.approx(float(moved.mean()), rel=1e-5)


def test_ascent_keeps_within_epsilon():
    queries = GradientPairs(epsilon=0.03).sample(tiny_victim(), tiny_data("victim"), budget=8, generator=generator())
    seeds, partners = queries.inputs.unbind(1)
    assert float((seeds - partners).abs().max()) <= 0.03 + 1e-6
    assert float(partners.min()) >= 0
    assert float(partners.max()) <= 1


def test_diversity_drives_partners_apart():
    found = [
        GradientPairs(diversity=weight).sample(tiny_victim(), tiny_data("victim"), budget=20, generator=generator())
        for weight in (0.0, 5.0)
    ]
    assert found[1].notes["diversity"] > found[0].notes["diversity"]
    assert found[1].notes["divergence"] < found[0].notes["divergence"]


def test_a_round_of_mutation_changes_at_most_one_pixel_by_epsilon():
    seeds, partners = (
        MutatedPairs(iterations=1)
        .sample(tiny_victim(), tiny_data("victim"), budget=16, generator=generator())
        .inputs.unbind(1)
    )
    changed = (seeds != partners).flatten(1).sum(1)
    assert int(changed.max()) == 1
    assert float((seeds - partners).abs().max()) <= 0.2 + 1e-6


def test_mutation_asks_for_scores_only_and_two_queries_a_round():
    victim = tiny_victim(Access.PROBABILITIES)
    queries = MutatedPairs(iterations=7).sample(victim, tiny_data("victim"), budget=5, generator=generator())
    assert queries.notes["asked_of_victim"] == 5 + 7 * 2 * 5


def test_more_rounds_climb_higher():
    reached = [
        MutatedPairs(iterations=rounds)
        .sample(tiny_victim(), tiny_data("victim"), budget=10, generator=generator())
        .notes["divergence"]
        for rounds in (0, 10, 100)
    ]
    assert reached[0] == pytest.approx(0, abs=1e-3)
    assert reached[0] < reached[1] < reached[2]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["gradient", "mutation"])
def test_a_single_pair_is_made(sampler):
    assert sampler.sample(tiny_victim(), tiny_data("victim"), budget=1, generator=generator()).inputs.shape[:2] == (
        1,
        2,
    )
