"""REPAIR: every hidden unit's moments are the interpolated ones of the two ends."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whorl.errors import UsageError
from whorl.nets.training import build
from whorl.symmetry.alignment.paths import interpolate, recompute_statistics
from whorl.symmetry.alignment.repair import Repair

SHAPE = (3, 8, 8)
LAYERS = (nn.Linear, nn.Conv2d, nn.BatchNorm2d)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def two_states(architecture):
    """Two nets of other seeds whose vectors are all drawn, with statistics of the pictures they get."""
    inputs = torch.rand(200, *SHAPE, generator=generator(9))
    states = []
    for seed in range(2):
        net = build(architecture, SHAPE, 10, generator(seed))
        for parameter in net.parameters():
            if parameter.ndim == 1:
                parameter.data = torch.randn(parameter.shape, generator=generator(seed + 5))
        recompute_statistics(net, inputs)
        states.append(net.state_dict())
    return build(architecture, SHAPE, 10, generator(7)), *states, inputs


@torch.no_grad()
def moments(net, state, inputs):
    """Mean and standard deviation of what each layer that can hold a shift makes."""
    net.load_state_dict(state)
    net.eval()
    seen = {}
    handles = [
        layer.register_forward_hook(lambda _layer, _inputs, outputs, name=name: seen.__setitem__(name, outputs))
        for name, layer in net.named_modules()
        if isinstance(layer, LAYERS) and layer.bias is not None
    ]
    net(inputs)
    for handle in handles:
        handle.remove()
    units = {name: made.movedim(1, 0).flatten(1).double() for name, made in seen.items()}
    return {name: (made.mean(1), made.std(1, correction=0)) for name, made in units.items()}


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5])
@pytest.mark.parametrize(
    "architecture", ["mlp(depth=3)", "lenet5", "vgg(width=4)", "resnet8(width=8)", "mobilenet(width=8)"]
)
def test_moments_are_those_between_the_ends(architecture, t):
    net, one, other, inputs = two_states(architecture)
    ends = moments(net, one, inputs), moments(net, other, inputs)
    found = moments(net, Repair(net, one, other, inputs)(t), inputs)
    plain = moments(net, interpolate(one, other, t), inputs)
    assert found
    away = 0.0
    for name, (mean, spread) in found.items():
        if name == "head":
            continue
        (mean_one, spread_one), (mean_other, spread_other) = ends[0][name], ends[1][name]
        goal = (1 - t) * spread_one + t * spread_other
        scale = float(goal.max())  # batch norms use one variance in training and keep another, by n / (n - 1)
        torch.testing.assert_close(mean, (1 - t) * mean_one + t * mean_other, atol=5e-3 * scale, rtol=0)
        torch.testing.assert_close(spread, goal, atol=5e-3 * scale, rtol=0)
        away = max(away, float((plain[name][1] - goal).abs().max()) / scale)
    assert t == 0 or away > 0.1  # plain interpolation misses them


def test_the_last_layer_is_only_interpolated():
    net, one, other, inputs = two_states("lenet5")
    state = Repair(net, one, other, inputs)(0.5)
    assert torch.equal(state["head.weight"], (one["head.weight"] + other["head.weight"]) / 2)


def test_batches_change_little():
    net, one, other, inputs = two_states("vgg(width=4)")
    whole = Repair(net, one, other, inputs)(0.5)
    parts = Repair(net, one, other, inputs, batch=50)(0.5)
    assert (parts["norms.1.bias"] - whole["norms.1.bias"]).norm() < 0.1 * whole["norms.1.bias"].norm()
    assert (parts["norms.1.weight"] - whole["norms.1.weight"]).norm() < 0.1 * whole["norms.1.weight"].norm()


def test_a_dead_unit_stays_finite():
    net, one, other, inputs = two_states("mlp(depth=2)")
    for state in (one, other):
        state["layers.0.weight"][3] = 0
    state = Repair(net, one, other, inputs)(0.5)
    assert all(bool(value.isfinite().all()) for value in state.values())


def test_the_net_is_left_as_it_was():
    net, one, other, inputs = two_states("vgg(width=4)")
    before = {tensor: value.clone() for tensor, value in net.state_dict().items()}
    Repair(net, one, other, inputs)(0.5)
    assert all(torch.equal(value, before[tensor]) for tensor, value in net.state_dict().items())
    assert net.norms[0].momentum == 0.1


def test_two_architectures_are_refused():
    net, one, _, inputs = two_states("lenet5")
    with pytest.raises(UsageError, match="nets of one architecture"):
        Repair(net, one, build("mlp", SHAPE, 10, generator()).state_dict(), inputs)
