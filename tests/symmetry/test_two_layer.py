"""Equality of functions of one hidden layer, from the weights."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from whorl.errors import UsageError
from whorl.nets.training import build
from whorl.symmetry.obfuscation import obfuscate, rescale, shuffle
from whorl.symmetry.two_layer import same_function, two_layer

SHAPE = (1, 3, 4)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(seed: int = 0, width: int = 9, architecture: str = "mlp") -> nn.Module:
    net = build(f"{architecture}(width={width},depth=1)", SHAPE, 4, seeded(seed))
    for weight in net.parameters():
        nn.init.normal_(weight, 0, 0.5, generator=seeded(seed + 50))
    net.mean.fill_(0.3)
    return net


def with_units(net, rows, offsets, outgoing):
    """The net with units added."""
    copy = deepcopy(net)
    hidden = copy.layers[0]
    hidden.weight = nn.Parameter(torch.cat([hidden.weight, rows]))
    hidden.bias = nn.Parameter(torch.cat([hidden.bias, offsets]))
    copy.head.weight = nn.Parameter(torch.cat([copy.head.weight, outgoing], 1))
    return copy


def test_knots_and_the_affine_rest_are_the_function():
    net = made(architecture="mlp_regressor").double()
    form = two_layer(net)
    inputs = torch.rand(50, 12, generator=seeded(1), dtype=torch.float64) * 20 - 10
    ones = torch.cat([inputs, torch.ones(50, 1, dtype=torch.float64)], 1)
    found = (ones @ form.planes.T).abs() @ form.jumps + ones @ form.affine.T
    assert torch.allclose(found, net(inputs.view(50, *SHAPE)), atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_obfuscated_copies_are_the_same(seed):
    net, generator = made(seed), seeded(seed)
    copy = shuffle(rescale(obfuscate(net, generator=generator), generator=generator), generator=generator)
    assert copy.layers[0].out_features > 9
    inputs = torch.rand(16, *SHAPE, generator=seeded(9))
    assert torch.allclose(copy(inputs), net(inputs), atol=1e-3)
    assert same_function(net, copy)
    assert same_function(copy, net)


def test_flipped_units_with_their_linear_part_moved_are_the_same():
    """relu(z) = relu(-z) + z: all units turned round, and three that carry the sum of the z."""
    net = made(0)
    hidden, head = net.layers[0], net.head
    turned = deepcopy(net)
    turned.layers[0].weight.data.neg_()
    turned.layers[0].bias.data.neg_()
    rows = torch.cat([hidden.weight, -hidden.weight])
    outgoing = torch.cat([head.weight, -head.weight], 1)
    turned = with_units(turned, rows, torch.cat([hidden.bias, -hidden.bias]), outgoing)
    inputs = torch.randn(16, *SHAPE, generator=seeded(9))
    assert torch.allclose(turned(inputs), net(inputs), atol=1e-4)
    assert same_function(net, turned)


def test_passages_that_cancel_are_seen_through():
    """c (relu(v x) - relu(-v x)) over v of sum 0 is nothing, and no unit of it is like another."""
    net = made(0)
    rows = torch.randn(3, 12, generator=seeded(4))
    rows[2] = -rows[0] - rows[1]
    offsets = torch.tensor([0.4, 0.1, -0.5])
    out = torch.tensor([[1.0], [-2.0], [0.5], [0.0]]).expand(4, 3)
    copy = with_units(net, torch.cat([rows, -rows]), torch.cat([offsets, -offsets]), torch.cat([out, -out], 1))
    assert same_function(net, copy)
    assert len(two_layer(copy).planes) == len(two_layer(net).planes) == 9


@pytest.mark.parametrize("place", ["layers.0.weight", "layers.0.bias", "head.weight", "head.bias"])
def test_one_weight_off_by_a_thousandth_is_another_function(place):
    net = made(0)
    copy = deepcopy(net)
    weight = dict(copy.named_parameters())[place].data
    weight.view(-1)[0] += 1e-3
    assert not same_function(net, copy)


def test_widths_do_not_matter_and_softmax_does():
    net = made(0)
    shifted = deepcopy(net)
    shifted.head.weight.data += torch.randn(9, generator=seeded(1))
    shifted.head.bias.data += 3
    assert same_function(net, shifted)
    assert not same_function(made(0), made(1))
    assert not same_function(made(0), made(0, width=8))
    numbers = made(0, architecture="mlp_regressor")
    more = deepcopy(numbers)
    more.head.bias.data += 3
    assert not same_function(numbers, more)


def test_a_unit_that_switches_nowhere_near_the_pictures_still_counts():
    net = made(0)
    far = with_units(net, torch.ones(1, 12), torch.tensor([-500.0]), torch.tensor([[1.0], [0.0], [0.0], [0.0]]))
    inputs = torch.rand(16, *SHAPE, generator=seeded(9))
    assert torch.allclose(far(inputs), net(inputs), atol=1e-6)
    assert not same_function(net, far)


def test_refusals():
    with pytest.raises(UsageError, match="one hidden layer"):
        two_layer(build("lenet5", (1, 8, 8), 4, seeded(0)))
    with pytest.raises(UsageError, match="never the same"):
        same_function(made(0), build("mlp(width=9)", (1, 3, 4), 5, seeded(0)))
