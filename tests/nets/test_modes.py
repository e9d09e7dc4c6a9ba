"""A borrowed module comes back as it was, part by part."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call

from whorl.nets.modes import evaluating
from whorl.nets.training import predict
from whorl.oracles.torch import TorchOracle
from whorl.symmetry.alignment.activation_matching import match_activations
from whorl.symmetry.alignment.curvature import loss_of
from whorl.symmetry.alignment.tracing import permutation_spec


def net():
    made = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 3))
    made.train()
    made[2].eval()  # a norm that its owner keeps as it is while the rest trains
    return made


def modes(module):
    return [child.training for child in module.modules()]


INPUTS = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_modes_come_back_after_an_error_too():
    one, other = net(), net().eval()
    before = modes(one), modes(other)
    with evaluating(one, other):
        assert not any(modes(one) + modes(other))
    with pytest.raises(RuntimeError), evaluating(one, other):
        one(torch.zeros(1, 7))
    assert (modes(one), modes(other)) == before


def test_whoever_borrows_a_net_hands_it_back():
    module = net()
    before = modes(module)
    oracle = TorchOracle(module, input_shape=(1, 4, 4), classes=3, batch=2)
    oracle.logits(INPUTS)
    oracle.activations(INPUTS, "1")
    next(iter(oracle.stream(INPUTS)))  # and is not asked to its end
    predict(module, INPUTS)
    spec = permutation_spec(module, (INPUTS[:2],))
    match_activations(module, module, spec, INPUTS)
    loss, point = loss_of(module, INPUTS, torch.zeros(5, dtype=torch.int64))
    loss(point)
    assert functional_call(module, dict(module.named_parameters()), (INPUTS,)).shape == (5, 3)
    assert modes(module) == before
