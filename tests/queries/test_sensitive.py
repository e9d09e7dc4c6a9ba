"""Sensitive samples: the sensitivity against brute force, the ascent, what is steady, and the cover."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from whorl.errors import AccessRefused, UsageError
from whorl.oracles.wrappers import LabelsOnly
from whorl.queries.sensitive import Sensitive, cover, sensitivity, steady
from whorl.testing import tiny_data, tiny_victim


@pytest.fixture(scope="module")
def victim():
    return tiny_victim()


@pytest.fixture(scope="module")
def data():
    return tiny_data("queries")


def sampled(victim, data, budget=6, **settings):
    settings = {"candidates": 20, "iterations": 40} | settings
    return Sensitive(**settings).sample(victim, data, budget=budget, generator=torch.Generator().manual_seed(0))


def brute(module, picture, parameters):
    """|| d softmax / d W ||_F^2 by one backward pass for each class."""
    probabilities = module(picture[None])[0].softmax(0)
    total = 0.0
    for each in probabilities:
        slopes = torch.autograd.grad(each, parameters, retain_graph=True)
        total += sum(float(slope.square().sum()) for slope in slopes)
    return total


def test_closed_form_of_the_last_layer_is_the_jacobian(victim, data):
    module = tiny_victim().module.eval()
    pictures = data.inputs()[:5]
    found = sensitivity(module, "last", torch.Generator())(pictures)
    expected = [brute(module, picture, [module.head.weight, module.head.bias]) for picture in pictures]
    torch.testing.assert_close(found.detach(), torch.tensor(expected), rtol=1e-4, atol=1e-7)


def test_estimate_of_all_layers_has_the_jacobian_as_its_mean():
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    pictures = torch.rand(4, 1, 2, 3, generator=generator)
    expected = torch.tensor([brute(net, picture, list(net.parameters())) for picture in pictures])
    measure = sensitivity(net, "all", generator)
    draws = torch.stack([measure(pictures).detach() for _ in range(4000)])
    error = draws.std(0) / len(draws) ** 0.5
    assert bool(((draws.mean(0) - expected).abs() < 4 * error).all())
    assert bool((error < 0.1 * expected).all())


@pytest.mark.parametrize("layers", ["last", "all"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_samples_are_more_sensitive_than_their_seeds_within_the_ball(victim, data, layers, norm):
    queries = sampled(victim, data, layers=layers, norm=norm, epsilon=0.1, learning_rate=0.01)
    change = queries.inputs - queries.companions["seeds"]
    size = change.abs().amax((1, 2, 3)) if norm == "linf" else change.square().mean((1, 2, 3)).sqrt()
    assert float(size.max()) <= 0.1 + 1e-6
    assert queries.notes["gain"] > 2


def test_without_steps_pictures_stay_natural(victim, data):
    queries = sampled(victim, data, iterations=0)
    assert torch.equal(queries.inputs, queries.companions["seeds"])
    assert queries.notes["gain"] == pytest.approx(1)


def test_a_margin_that_nothing_keeps_is_refused(victim, data):
    with pytest.raises(UsageError, match="smaller margin"):
        sampled(victim, data, margin=100.0)


@pytest.mark.parametrize(("field", "value"), [("norm", "l1"), ("layers", "first")])
def test_wrong_settings_are_refused(victim, data, field, value):
    with pytest.raises(UsageError, match=value):
        sampled(victim, data, **{field: value})


def test_only_modules_have_weights(victim, data):
    with pytest.raises(AccessRefused, match="PyTorch module"):
        sampled(LabelsOnly(victim), data)


def test_a_net_without_linear_layer_is_refused(data):
    with pytest.raises(UsageError, match="no linear layer"):
        sensitivity(nn.Sequential(nn.Flatten()), "last", torch.Generator())(data.inputs()[:1])


def test_steady_answers_survive_what_the_margin_says():
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.40001, 0.39999, 0.20000], [0.995, 0.003, 0.002], [0.6, 0.2, 0.2]])
    assert steady(probabilities, 1, 0, 1e-4).tolist() == [True, False, True, True]
    assert steady(probabilities, 2, 0, 1e-4).tolist() == [True, False, True, False]
    assert steady(probabilities, 3, 2, 1e-4).tolist() == [True, True, False, True]


def test_cover_is_greedy_and_breaks_ties_by_value():
    active = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 1, 1, 1]], dtype=torch.bool)
    assert cover(active, torch.tensor([1.0, 2, 3, 4]), 2).tolist() == [3, 1]
    assert cover(active, torch.tensor([1.0, 4, 3, 2]), 2).tolist() == [1, 3]
    assert sorted(cover(active, torch.ones(4), 4).tolist()) == [0, 1, 2, 3]
    assert cover(torch.zeros(3, 2, dtype=torch.bool), torch.tensor([1.0, 3, 2]), 3).tolist() == [1, 2, 0]


def test_cover_comes_close_to_the_best():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        active = torch.rand(9, 12, generator=generator) < 0.3
        best = max(int(active[list(rows)].any(0).sum()) for rows in itertools.combinations(range(9), 3))
        found = int(active[cover(active, torch.rand(9, generator=generator), 3)].any(0).sum())
        assert found >= (1 - 1 / 2.718281828) * best  # Nemhauser, Wolsey, Fisher 1978
