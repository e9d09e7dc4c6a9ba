"""Canonical forms: the function stays, the symmetries go."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest
import torch
from torch import nn

from whorl.errors import UsageError
from whorl.nets.training import build
from whorl.symmetry.canonical import canonical, probes
from whorl.symmetry.channels import read_units, rows
from whorl.symmetry.copies import distance, exact_hash
from whorl.symmetry.obfuscation import obfuscate, rescale, shuffle

SHAPE = (3, 8, 8)
NETS = [
    "mlp(width=16,depth=3)",
    "lenet5",
    "vgg(width=6)",
    "resnet8(width=6)",
    "mobilenet(width=6)",
    "wrn(depth=10,widen=1)",
]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(architecture: str, seed: int = 0) -> nn.Module:
    """A net whose norms are as if it had been trained."""
    net = build(architecture, SHAPE, 5, seeded(seed)).eval()
    generator = seeded(seed + 100)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.copy_(torch.randn(layer.num_features, generator=generator) / 10)
            layer.running_var.copy_(torch.rand(layer.num_features, generator=generator) + 0.5)
            nn.init.normal_(layer.weight, 1, 0.3, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.1, generator=generator)
        elif isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None:
            nn.init.normal_(layer.bias, 0, 0.1, generator=generator)
    return net


@cache
def form_of(architecture: str):
    return canonical(made(architecture))


def attacked(net, seed: int):
    generator = seeded(seed)
    return shuffle(rescale(obfuscate(net, generator=generator), generator=generator), generator=generator)


def noisy(net, size: float, seed: int):
    copy, generator = deepcopy(net), seeded(seed)
    for weight in copy.parameters():
        weight.data += size * weight.data.square().mean().sqrt() * torch.randn(weight.shape, generator=generator)
    return copy


def centred_logits(net, inputs):
    with torch.inference_mode():
        logits = net(inputs.to(next(net.parameters()).dtype)).double()
    return logits - logits.mean(1, keepdim=True)


@pytest.mark.parametrize("architecture", NETS)
def test_canonical_form_keeps_what_softmax_sees(architecture):
    net = made(architecture)
    inputs = torch.rand(16, *SHAPE, generator=seeded(9))
    kept = centred_logits(form_of(architecture).net, inputs)
    assert (kept - centred_logits(net, inputs)).abs().max() < 1e-5 * kept.abs().max()


@pytest.mark.parametrize("architecture", NETS)
def test_every_unit_has_norm_one_where_it_is_first_written(architecture):
    form = form_of(architecture).net
    for units in read_units(form):
        for space in units.spaces:
            assert torch.allclose(rows(space.writers[0]).norm(dim=1), torch.ones((), dtype=torch.float64))
    assert form.head.weight.mean(0).abs().max() < 1e-12


@pytest.mark.parametrize("architecture", NETS)
def test_attacked_copy_is_the_same_net(architecture):
    net = made(architecture)
    copy = attacked(net, 1)
    inputs = torch.rand(16, *SHAPE, generator=seeded(9))
    logits = centred_logits(net, inputs)
    assert (centred_logits(copy, inputs) - logits).abs().max() < 1e-3 * logits.abs().max(), "the attack breaks the net"
    assert next(copy.parameters()).shape != next(net.parameters()).shape or architecture.startswith(("res", "wrn"))
    one, other = form_of(architecture), canonical(copy)
    assert sum(other.removed.values()) > sum(one.removed.values())
    assert one.spec.sizes == other.spec.sizes
    assert distance(one, other, generator=seeded(2)).total < 1e-5
    assert exact_hash(one).digest == exact_hash(other).digest
    assert exact_hash(one).matches(exact_hash(other))


@pytest.mark.parametrize("architecture", NETS)
def test_distance_grows_with_noise_and_strangers_are_far(architecture):
    net = made(architecture)
    one = form_of(architecture)
    near = distance(one, shuffle(noisy(net, 1e-4, 3), generator=seeded(4)), generator=seeded(2)).total
    assert 0.5e-4 < near < 3e-4
    assert distance(one, made(architecture, 7), generator=seeded(2), restarts=1).total > 0.7


@pytest.mark.parametrize("architecture", NETS)
def test_hash_sees_noise_of_one_thousandth(architecture):
    one, other = exact_hash(form_of(architecture)), exact_hash(noisy(made(architecture), 1e-3, 5))
    assert one.digest != other.digest
    assert not one.matches(other)


def test_distances_by_layer_name_the_layer_that_moved():
    net = made("mlp(width=16,depth=3)")
    copy = deepcopy(net)
    copy.head.weight.data += 0.1 * torch.randn(copy.head.weight.shape, generator=seeded(0))
    layers = distance(net, shuffle(copy, generator=seeded(1)), generator=seeded(2)).layers
    assert layers["head"] > 0.01
    assert max(value for name, value in layers.items() if name != "head") < 1e-6


def test_constant_units_go_to_the_next_bias():
    net = made("mlp(width=16,depth=2)")
    copy = deepcopy(net)
    copy.layers[0].weight.data[3] = 0
    copy.layers[0].bias.data[3] = 0.7
    form = canonical(copy)
    assert form.removed["layers.0"] == 1
    inputs = torch.rand(16, *SHAPE, generator=seeded(9))
    assert (centred_logits(copy, inputs) - centred_logits(form.net, inputs)).abs().max() < 1e-5


def test_constant_units_before_a_padded_convolution_stay():
    net = made("vgg(width=6)")
    net.norms[0].weight.data[2] = 0
    net.norms[0].bias.data[2] = 0.7
    net.norms[0].weight.data[3] = 0
    net.norms[0].bias.data[3] = -0.7
    assert canonical(net).removed["convs.0"] == 1


def test_unequal_widths_count_units_without_partner():
    net = made("mlp(width=32)")
    narrow = deepcopy(net)
    narrow.layers[0].bias.data[0], narrow.layers[0].weight.data[0] = -1, 0  # never on
    there, back = (distance(*pair, generator=seeded(0)) for pair in ((net, narrow), (narrow, net)))
    assert canonical(narrow).removed["layers.0"] == 1
    assert there.layers["layers.0"] == pytest.approx((1 / 32) ** 0.5, rel=1e-3)
    assert back.layers["layers.0"] == pytest.approx((1 / 31) ** 0.5, rel=1e-3)


class Odd(nn.Module):
    """Two hidden layers with an odd activation."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 4)
        for weight in self.parameters():
            nn.init.normal_(weight, 0, 0.5, generator=seeded(seed))

    def forward(self, x):
        return self.head(torch.tanh(self.two(torch.tanh(self.one(x)))))


def test_signs_before_odd_activations_follow_the_rule():
    net, inputs = Odd(0), torch.randn(8, 6, generator=seeded(1))
    copy = deepcopy(net)
    signs = torch.tensor([1, -1, 1, -1, -1, 1, 1, -1.0])
    copy.one.weight.data *= signs[:, None]
    copy.one.bias.data *= signs
    copy.two.weight.data *= signs
    assert torch.allclose(net(inputs), copy(inputs), atol=1e-6)
    one, other = canonical(net, inputs), canonical(copy, inputs)
    assert all(torch.allclose(value, other.state[name]) for name, value in one.state.items())
    assert not torch.allclose(one.net.one.weight.norm(dim=1), torch.ones(8, dtype=torch.float64))  # no scale to remove


def test_signs_are_aligned_by_pair_where_noise_turns_the_rule():
    net, inputs = Odd(0), torch.randn(8, 6, generator=seeded(1))
    net.one.weight.data[0, :2] = torch.tensor([2.0, -1.9999])
    copy = deepcopy(net)
    copy.one.weight.data[0, 1] = -2.0001
    found = distance(canonical(net, inputs), canonical(copy, inputs), generator=seeded(0))
    assert found.total < 1e-3


def test_linear_passages_are_counted():
    net = made("mlp(width=16)")
    net.layers[0].weight.data[1] = -2 * net.layers[0].weight.data[0]
    net.layers[0].bias.data[1] = -2 * net.layers[0].bias.data[0]
    net.head.weight.data[:, 1] = -net.head.weight.data[:, 0] / 2
    assert canonical(net).passages == 1


def test_activations_that_are_neither_keep_only_the_order():
    class Gelu(Odd):
        def forward(self, x):
            return self.head(torch.nn.functional.gelu(self.one(x))[:, :7])

    net, inputs = Gelu(0), torch.randn(8, 6, generator=seeded(1))
    assert torch.equal(canonical(net, inputs).state["one.weight"], net.one.weight.double())


def test_weights_may_lie_in_memory_with_channels_last():
    net = made("vgg(width=6)")
    other = attacked(deepcopy(net).to(memory_format=torch.channels_last), 3)
    assert distance(net, other, generator=seeded(0)).total < 1e-5


def test_refusals():
    class Branches(Odd):
        def forward(self, x):
            return self.one(x) if x.sum() > 0 else x

    with pytest.raises(UsageError, match="canonical form"):
        canonical(Branches(0), torch.randn(4, 6, generator=seeded(0)))
    with pytest.raises(UsageError, match="give examples"):
        canonical(Odd(0))
    with pytest.raises(UsageError, match="one architecture"):
        distance(made("lenet5"), made("vgg(width=6)"), generator=seeded(0))


def test_probes_are_pictures():
    pictures = probes(SHAPE)
    assert pictures.shape == (32, *SHAPE)
    assert pictures.min() >= 0
    assert pictures.max() <= 1


def test_several_units_that_are_all_but_silent_go_together():
    """Each leaves less than a millionth, in the same direction."""
    net = made("mlp(width=16,depth=1)")
    hidden, head = net.layers[0].weight, net.head.weight
    with torch.no_grad():
        hidden[4:] = 100 * hidden[0] + torch.randn(12, hidden.shape[1], generator=seeded(1))
        head[:, 4:] = 4e-9 * head[:, :1]
    assert canonical(net).removed["layers.0"] == 12
