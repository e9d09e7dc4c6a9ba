"""Distances to the boundary against geometry, and Welch's t against scipy."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import ttest_ind
from torch import nn

from whorl.errors import UsageError
from whorl.oracles.torch import TorchOracle
from whorl.schemes.dataset_inference import BlindWalk, MinGD, first_flips, welch
from whorl.testing import tiny_data, tiny_victim
from whorl.types import Evidence, Representation


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def plane(weight, bias):
    """A linear two-class model whose second class wins where weight @ x + bias > 0."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(weight.numel(), 2))
    net[1].weight.data = torch.stack([torch.zeros_like(weight), weight])
    net[1].bias.data = torch.tensor([0.0, bias])
    return TorchOracle(net, input_shape=(1, 4, 4), classes=2)


@pytest.mark.parametrize(("m", "n"), [(2, 2), (30, 41)])
def test_welch_is_scipys(m, n):
    one, two = torch.randn(m, generator=chance()).double() + 0.3, torch.randn(n, generator=chance(1)).double() * 2
    assert welch(one, two) == pytest.approx(ttest_ind(one, two, equal_var=False).statistic)
    assert welch(two, one) == pytest.approx(-welch(one, two))


def test_constant_samples_give_a_finite_t():
    same = torch.ones(5).double()
    assert welch(same, same) == 0
    assert welch(same, same - 0.1) == pytest.approx(0.1 / 1e-6)


def test_first_flips_counts_up_to_the_first_error():
    right = torch.tensor([[[1, 1, 0, 1], [0, 1, 1, 1]], [[1, 1, 1, 1], [1, 1, 1, 0]]]).bool()
    assert first_flips(right, torch.tensor([True, True])).tolist() == [[2, 0], [4, 3]]
    assert first_flips(right, torch.tensor([True, False])).tolist() == [[2, 0], [0, 0]]


def test_blind_walks_end_at_the_plane():
    """Counted by hand from the signs of the plane along each walk."""
    weight, pictures = torch.randn(16, generator=chance()), torch.rand(30, 1, 4, 4, generator=chance(1))
    scheme, oracle = BlindWalk(directions=2, steps=6), plane(weight, -float(weight.sum()) / 2)
    inputs = scheme.starts(pictures, chance(2))
    truth = oracle.labels(pictures)
    found = scheme.distances(oracle, inputs, truth)
    sign = (inputs.flatten(2) @ weight > weight.sum() / 2).long()
    for row in range(30):
        for walk in range(6):
            line = sign[row, 1 + 6 * walk : 7 + 6 * walk].tolist()
            same = [answer == int(truth[row]) for answer in line]
            assert int(found[row, walk]) == (same.index(False) if False in same else 6)
    assert oracle.queries_spent == 30 + inputs.shape[0] * inputs.shape[1]
    assert 0 < float(found.mean()) < 6


@pytest.mark.parametrize("settings", [{"directions": 0}, {"steps": 1}, {"reach": 1.0}])
def test_walks_that_go_nowhere_are_refused(settings):
    with pytest.raises(UsageError, match=r"of at least|above 1"):
        BlindWalk(**settings)


def test_descents_find_the_distance_to_a_plane_in_three_norms():
    """In a norm p it is |w x + b| over the dual norm of w, exact up to a step while the box does not bind."""
    weight = torch.randn(16, generator=chance())
    pictures = 0.5 + 0.02 * torch.randn(20, 1, 4, 4, generator=chance(1))
    oracle = plane(weight, -float(weight.sum()) / 2 + 0.1)
    scheme = MinGD(linf=0.0005, l2=0.002, l1=0.004, sparsity=1, iterations=300)
    found = scheme.distances(oracle, pictures, oracle.labels(pictures))
    height = (pictures.flatten(1) @ weight - weight.sum() / 2 + 0.1).abs()
    duals = (weight.abs().sum(), weight.norm(), weight.abs().max())
    for column, (dual, step) in enumerate(zip(duals, (0.0005, 0.002, 0.004), strict=True)):
        torch.testing.assert_close(found[:, column], height / dual, rtol=0, atol=1.01 * step)


def test_misread_pictures_have_no_distance():
    oracle = plane(torch.ones(16), -8.0)
    pictures = torch.rand(10, 1, 4, 4, generator=chance())
    assert not MinGD().distances(oracle, pictures, 1 - oracle.labels(pictures)).any()
    walked = BlindWalk(directions=1, steps=3)
    assert not walked.distances(oracle, walked.starts(pictures, chance()), 1 - oracle.labels(pictures)).any()


@pytest.mark.parametrize("scheme", [BlindWalk(directions=1, steps=4), MinGD(targets=2, iterations=10)])
def test_a_fingerprint_scores_pictures_and_gives_one_t(scheme):
    fingerprint = scheme.extract(tiny_victim(), tiny_data("victim+queries"), budget=30)
    score, public = fingerprint.reference.values.unbind(1)
    assert score.abs().max() <= 1
    assert public.bool().equal(fingerprint.queries.companions["public"])
    found = scheme.observe(fingerprint, tiny_victim())
    expected = ttest_ind(score[public > 0].double(), score[public == 0].double(), equal_var=False).statistic
    assert found == Evidence(pytest.approx(expected))


def test_nearer_public_pictures_are_larger():
    score = torch.tensor([0.9, 0.7, 0.8, -0.9, -0.8, -0.5])
    public = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    observed = Representation(torch.stack([score, public], 1))
    assert BlindWalk().similarity(observed, observed).similarity > 10
    assert BlindWalk().similarity(observed, Representation(torch.stack([-score, public], 1))).similarity < -10
