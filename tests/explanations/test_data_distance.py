"""Distances of data sets through models: the statistic by hand, its p-value uniform, and a shift found."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

from whorl import data_distance
from whorl.data import SOURCES
from whorl.detection.energy import energy_test
from whorl.errors import UsageError
from whorl.explanations.data_distance import answer_distances
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly


def between(points):
    return np.linalg.norm(points[:, None] - points[None], axis=2)


def test_the_statistic_is_the_means_over_pairs():
    points = np.random.default_rng(0).normal(size=(7, 3))
    table = between(points)
    found = energy_test(table, 3, generator=np.random.default_rng(1), rounds=5)
    cross = np.mean([table[i, j] for i, j in product(range(3), range(3, 7))])
    inner = [np.mean([table[i, j] for i, j in combinations(group, 2)]) for group in (range(3), range(3, 7))]
    assert found.between == pytest.approx(cross)
    assert found.within == pytest.approx(inner)
    assert found.statistic == pytest.approx(2 * cross - sum(inner))


def test_the_p_value_is_at_its_level_for_equal_groups_and_least_for_groups_apart():
    chance = np.random.default_rng(2)
    low = 0
    for _ in range(400):
        points = chance.normal(size=(16, 2))
        low += energy_test(between(points), 8, generator=chance, rounds=99).p_value <= 0.1
    assert binom.cdf(low, 400, 0.1) > 0.001
    assert binom.sf(low - 1, 400, 0.1) > 0.001
    points = chance.normal(size=(16, 2)) + 9 * (np.arange(16) < 8)[:, None]
    assert energy_test(between(points), 8, generator=chance, rounds=99).p_value <= 0.02
    same = np.ones((8, 8)) - np.eye(8)
    assert energy_test(same, 4, generator=chance, rounds=99).p_value == 1, "ties count against a finding"


def test_answers_are_compared_by_total_variation():
    answers = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])
    assert answer_distances(answers).tolist() == [[0.0, 0.5], [0.5, 0.0]]


DIGITS = SOURCES.make("digits(size=8)")
PROBES = DIGITS.load("test")


def models(change, seeds):
    """Linear nets, each of which learned 200 digits of its own draw, changed or not."""
    data, found = DIGITS.load("victim"), []
    for seed in seeds:
        index = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:200]
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        for weight in net.parameters():
            nn.init.zeros_(weight)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
        for _ in range(30):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(change(data.inputs(index))), data.labels[index]).backward()
            optimiser.step()
        found.append(TorchOracle(net, input_shape=(1, 8, 8), classes=10))
    return found


@pytest.fixture(scope="module")
def groups():
    return models(lambda at: at, range(100, 140)), models(lambda at: at.flip(3), range(140, 160))


def test_a_shift_is_found_by_probabilities_and_by_labels_and_none_where_there_is_none(groups):
    plain, noisy = groups
    for wrapped in (lambda each: each, LabelsOnly):
        one, other, shifted = ([wrapped(each) for each in group] for group in (plain[:20], plain[20:], noisy))
        chance = np.random.default_rng(0)
        near = data_distance(one, other, PROBES, generator=chance, rounds=199)
        far = data_distance(one, shifted, PROBES, generator=chance, rounds=199)
        assert far.p_value == 1 / 200
        assert far.statistic > 5 * abs(near.statistic)
        assert near.p_value > 0.01


def test_too_few_or_other_models_are_refused(groups):
    plain, noisy = groups
    with pytest.raises(UsageError, match="20 models of each"):
        data_distance(plain[:19], noisy, PROBES, generator=np.random.default_rng(0))
    fewer = TorchOracle(nn.Sequential(nn.Flatten(), nn.Linear(64, 9)), input_shape=(1, 8, 8), classes=9)
    with pytest.raises(UsageError, match="same 10 classes"):
        data_distance(plain[:20], [*noisy, fewer], PROBES, generator=np.random.default_rng(0))
    for table in (np.ones((3, 2)), np.full((4, 4), np.nan), np.arange(16).reshape(4, 4)):
        with pytest.raises(UsageError, match="symmetric"):
            energy_test(table, 2, generator=np.random.default_rng(0))
    with pytest.raises(UsageError, match="two members"):
        energy_test(np.zeros((3, 3)), 1, generator=np.random.default_rng(0))
