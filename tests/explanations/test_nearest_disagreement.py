"""How often two models disagree, and how near: against counts, noise, and nets that are the same function."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from whorl.data.base import join
from whorl.detection.rates import log_rate_evidence
from whorl.errors import UsageError
from whorl.explanations import Search, disagree
from whorl.explanations.delta import explain_disagreement
from whorl.explanations.explanation import readable
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly
from whorl.removals import REMOVALS
from whorl.testing import tiny_data, tiny_net, tiny_victim

NET = "mlp(width=16)"
SEEDS = (0, 1, 2)


def oracle(net):
    return TorchOracle(net, input_shape=(1, 8, 8), classes=10)


@pytest.fixture(scope="module")
def data():
    return join(tiny_data("queries"), tiny_data("test"))


@pytest.fixture(scope="module")
def pairs():
    """Three victims, each with a fine-tuned copy."""
    tune = REMOVALS.make("fine_tune(all, epochs=2)")
    victims = [tiny_victim(seed=seed, architecture=NET) for seed in SEEDS]
    copies = [
        tune(victim, tiny_data("attacker"), generator=torch.Generator().manual_seed(seed))
        for seed, victim in zip(SEEDS, victims, strict=True)
    ]
    return [(victim, oracle(copy)) for victim, copy in zip(victims, copies, strict=True)]


def found_in(first, second, data, **settings):
    return disagree(first, second, data, generator=torch.Generator().manual_seed(0), search=Search(**settings))


def test_the_rate_is_the_share_of_the_declared_inputs(pairs, data):
    for first, second in pairs:
        found = found_in(first, second, data, inputs=5, steps=2)
        one, other = first.labels(data.inputs()), second.labels(data.inputs())
        assert found.rate.differing == int((one != other).sum()) == sum(found.pairs.values())
        assert found.rate.differing / found.rate.asked in found.rate.interval


def test_the_evidence_is_the_mean_of_bets_and_rarely_large_at_the_bound():
    chance, most = np.random.default_rng(0), 0.05
    flags = chance.random(60) < 0.3
    bets = np.linspace(most, 1, 20_001)[:-1] + (1 - most) / 40_000
    wealth = np.cumsum(np.where(flags[:, None], np.log(bets / most), np.log((1 - bets) / (1 - most))), axis=0)
    by_hand = np.log(np.exp(wealth).mean(1))
    assert np.allclose(log_rate_evidence(flags, most), by_hand, atol=2e-3)
    refuted = sum(log_rate_evidence(chance.random(400) < most, most).max() >= math.log(10) for _ in range(500))
    assert refuted <= 68  # of binomial(500, .1), more come once in 250
    assert log_rate_evidence(chance.random(400) < 0.15, most).max() > math.log(100)
    for flags, most in (([0, 2], 0.1), ([0, 1], 0.0), ([[0]], 0.1)):
        with pytest.raises(UsageError):
            log_rate_evidence(flags, most)


def by_noise(first, second, seeds, share, generator):
    """The median distance at which noise turns up disagreements from ``share`` of the seeds.

    8 directions at 20 radii are about as many points as both climbs and the halving ask of a seed.
    """
    reached = torch.full((len(seeds),), math.inf)
    for _ in range(8):
        way = torch.randn(seeds.shape, generator=generator)
        way /= way.flatten(1).norm(dim=1)[:, None, None, None]
        for radius in torch.linspace(0.1, 4, 20):
            points = (seeds + radius * way).clamp(0, 1)
            differ = first.labels(points) != second.labels(points)
            length = (points - seeds).flatten(1).norm(dim=1)
            reached = torch.where(differ & (length < reached), length, reached)
    return float(reached.sort().values[: max(1, round(share * len(seeds)))].median())


def test_gradients_find_nearer_disagreements_than_noise_of_equal_success_and_cost(pairs, data):
    """Three times nearer in the median over three victims, and twice for each; settings were chosen on seeds 20 to 24.

    There the ratio was 2.9 to 4.2. Five times as much noise comes within 2 to 3 times the distance.
    """
    ratios = []
    for first, second in pairs:
        found = found_in(first, second, data, inputs=40)
        inputs = data.inputs(torch.randperm(len(data), generator=torch.Generator().manual_seed(0)))
        agreed = inputs[first.labels(inputs) == second.labels(inputs)][:40]
        share = len(found.found) / found.searched
        assert share > 0.5
        noise = by_noise(first, second, agreed, share, torch.Generator().manual_seed(1))
        ratios.append(noise / float(found.found.distances.median()))
    assert sorted(ratios)[1] >= 3
    assert min(ratios) >= 2


@pytest.mark.parametrize("labels", [False, True])
def test_what_is_found_is_a_disagreement_where_it_is_said_to_be(pairs, data, labels):
    first, second = (LabelsOnly(each) for each in pairs[0]) if labels else pairs[0]
    found = found_in(first, second, data, inputs=60)
    assert found.by == ("labels" if labels else "gradients")
    kept = found.found
    assert len(kept) > 10
    assert (first.labels(kept.points) == kept.first).all()
    assert (second.labels(kept.points) == kept.second).all()
    assert (kept.first != kept.second).all()
    assert (first.labels(kept.seeds) == second.labels(kept.seeds)).all()
    assert torch.allclose((kept.points - kept.seeds).flatten(1).norm(dim=1), kept.distances)
    assert (kept.distances.diff() >= 0).all()
    assert ((kept.points >= 0) & (kept.points <= 1)).all()
    nearest = kept.by_pair()
    assert len(set(zip(nearest.first.tolist(), nearest.second.tolist(), strict=True))) == len(nearest)
    assert nearest.distances[0] == kept.distances[0]
    again = found_in(first, second, data, inputs=60)
    assert torch.equal(again.found.points, kept.points)


def test_gradients_find_nearer_ones_than_labels(pairs, data):
    for first, second in pairs:
        white = found_in(first, second, data, inputs=60).found.distances
        black = found_in(LabelsOnly(first), LabelsOnly(second), data, inputs=60).found.distances
        assert float(white.median()) < float(black.median())


def test_the_same_function_in_other_weights_shows_no_disagreement(data):
    """10,000 steps from ordinary inputs of a net and of a copy with its units permuted and scaled."""
    for seed in SEEDS:
        victim = tiny_victim(seed=seed, architecture=NET)
        permuted = REMOVALS.make("reparametrise")(victim, data, generator=torch.Generator().manual_seed(seed))
        found = found_in(victim, oracle(permuted), data, inputs=100, steps=50)
        assert (found.rate.differing, len(found.found)) == (0, 0)
        assert found.rate.needed is None
        other = found_in(victim, oracle(tiny_net(seed=seed + 50, architecture=NET)), data, inputs=100, steps=50)
        assert len(other.found) > 50


def test_what_is_found_feeds_the_rules(pairs, data):
    first, second = pairs[0]
    found = found_in(first, second, data, inputs=150)
    joined = join(data, found.found.data(data.classes))
    values, _ = readable(joined, 9)
    differ = (first.labels(joined.inputs()) != second.labels(joined.inputs())).numpy()
    assert differ[len(data) :].all()
    told = explain_disagreement(values, differ, generator=np.random.default_rng(0))
    assert told.found
    assert told.precision > differ.mean(), "rules are found where there were too few disagreements for any"


def test_models_that_cannot_be_compared_are_refused(data):
    victim = tiny_victim(architecture=NET)
    fewer = TorchOracle(victim.module, input_shape=(1, 8, 8), classes=9)
    with pytest.raises(UsageError, match="give two alike"):
        found_in(victim, fewer, data)
    with pytest.raises(UsageError, match="most is"):
        Search(most=0.0)
