"""A model over weights of many nets, and what it says of another."""

from __future__ import annotations

from functools import cache

import pytest
import torch

import whorl
from whorl.errors import AccessRefused, UsageError
from whorl.inspection.fitted import weight_features
from whorl.nets.training import build
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly
from whorl.testing import tiny_victim

SHAPE = (1, 8, 8)


def net(seed, *, spike=0.0, architecture="mlp(width=12)"):
    """An untrained net, with one weight before the first hidden layer that is larger where there is a spike."""
    made = build(architecture, SHAPE, 10, torch.Generator().manual_seed(seed)).eval()
    with torch.no_grad():
        made.hidden_units()[0].producer.weight[seed % 12, seed % 64] += spike
    return made


@cache
def known():
    clean = {str(seed): net(seed) for seed in range(70)}
    return clean, {str(seed): net(1000 + seed, spike=3.0) for seed in range(55)}


def test_a_net_like_the_trojaned_ones_is_called_so_and_a_clean_one_is_not():
    clean, trojaned = known()
    bad, good = (whorl.inspect_weights(net(5000, spike=spike), clean=clean, trojaned=trojaned) for spike in (3.0, 0.0))
    assert (bad.decision, bad.p_value) == ("trojaned", 1 / 24)
    assert (bad.fitted, bad.ranked) == ((47, 55), 23)
    assert good.decision == "inconclusive"
    assert bad.score > 0 > good.score
    assert any("wrong labels" in each for each in good.caveats)


def test_clean_nets_are_called_trojaned_as_often_as_alpha_says_though_the_model_has_learned_nothing():
    """Where both kinds are alike, p among nets that were not fitted is still a rank."""
    nothing = {str(seed): net(2000 + seed) for seed in range(55)}
    clean, _ = known()
    found = [
        whorl.inspect_weights(net(6000 + seed), clean=clean, trojaned=nothing, alpha=0.25, seed=seed).p_value
        for seed in range(12)
    ]
    assert 0.2 < sum(found) / len(found) < 0.8
    assert sum(each <= 0.25 for each in found) <= 8  # 1 in 2,700 by chance


def test_features_are_those_of_the_function_whatever_scale_its_units_have():
    module = net(7)
    before = weight_features(oracle(module))
    units = module.hidden_units()[0]
    with torch.no_grad():
        units.producer.weight[::2] *= 8
        units.producer.bias[::2] *= 8
        units.consumer.weight[:, ::2] /= 8
    assert torch.allclose(weight_features(oracle(module)), before, atol=1e-4)
    assert not torch.allclose(weight_features(oracle(net(7, spike=3.0))), before, atol=1e-2)


def oracle(module):
    return TorchOracle(module, input_shape=SHAPE, classes=10)


def test_what_can_not_be_fitted_is_refused_in_one_line():
    clean, trojaned = known()
    few = dict(list(clean.items())[:40])
    for given, error, says in (
        ({"clean": few, "trojaned": trojaned}, UsageError, "leave 21 clean and 55 trojaned: give more"),
        ({"clean": clean | {"x": net(5)}, "trojaned": trojaned}, UsageError, "the clean net x has the weights of"),
        ({"clean": clean, "trojaned": trojaned | {"x": net(5)}}, UsageError, "the trojaned net x has the weights of"),
        (
            {"clean": clean | {"x": net(5, architecture="mlp(width=12, depth=3)")}, "trojaned": trojaned},
            UsageError,
            "x has other layers",
        ),
        ({"clean": clean, "trojaned": trojaned, "alpha": 0}, UsageError, "between 0 and 1"),
    ):
        with pytest.raises(error, match=says) as raised:
            whorl.inspect_weights(net(5000), **given)
        assert "\n" not in str(raised.value)
    with pytest.raises(AccessRefused, match="weights"):
        weight_features(LabelsOnly(tiny_victim()))
