"""Noise in the null space of each layer's inputs changes nothing on the data that spans the rest."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whorl.data import Dataset
from whorl.errors import UsageError
from whorl.nets.training import Schedule, build, fit, predict
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.testing import tiny_data, tiny_net

KINDS = ["mlp(width=32, depth=2)", "lenet5", "vgg(width=4)", "mobilenet(width=4)", "resnet8(width=4)"]


def opened(net):
    return TorchOracle(net, input_shape=net.input_shape, classes=net.classes)


def randomised(net, data, *, seed=0, **settings):
    expression = f"randomise_boundary({', '.join(f'{key}={value}' for key, value in settings.items())})"
    return REMOVALS.make(expression)(opened(net), data, generator=torch.Generator().manual_seed(seed))


def change(before, after, inputs):
    """Largest change of a logit, in units of their spread."""
    ours, theirs = predict(before, inputs), predict(after, inputs)
    return float((ours - theirs).abs().max() / ours.std())


@pytest.mark.parametrize("architecture", KINDS)
def test_unchanged_on_the_data_and_changed_off_it(architecture):
    """A dozen pictures, so that even convolutions leave directions that are exactly free."""
    net, few = tiny_net(architecture=architecture), tiny_data("attacker").subset(slice(0, 12))
    after = randomised(net, few, norm=1.0, energy=1.0)
    assert change(net, after, few.inputs()) < 1e-4
    noise = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    assert change(net, after, noise) > 0.05


@pytest.mark.parametrize("architecture", KINDS)
def test_less_energy_changes_more_of_the_net(architecture):
    net, data = tiny_net(architecture=architecture), tiny_data("attacker")
    changes = [change(net, randomised(net, data, energy=energy), data.inputs()) for energy in (0.9999, 0.9)]
    assert changes[0] < 0.5 < changes[1]


@pytest.mark.parametrize("norm", [0.2, 1.0])
def test_noise_has_the_norm_asked_for(norm):
    net = tiny_net(architecture="mlp(width=32)")
    after = randomised(net, tiny_data("attacker"), norm=norm)
    before, moved = (torch.cat([each.layers[0].weight, each.layers[0].bias[:, None]], 1) for each in (net, after))
    assert float((moved - before).detach().norm() / before.detach().norm()) == pytest.approx(norm, rel=1e-3)


def test_noise_fills_the_null_space_and_nothing_else():
    """Against a singular value decomposition of the inputs themselves."""
    net, data = tiny_net(architecture="mlp(width=256)"), tiny_data("attacker")
    layer, after = net.layers[0], randomised(net, data, energy=1.0).layers[0]
    rows = ((data.inputs() - net.mean) / net.std).flatten(1).double()
    rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    _, sizes, directions = torch.linalg.svd(rows)
    rank = int((sizes > 1e-6 * sizes[0]).sum())
    moved = torch.cat([after.weight - layer.weight, (after.bias - layer.bias)[:, None]], 1).double()
    assert 0 < rank < rows.shape[1]
    assert float((moved @ directions[:rank].T).norm() / moved.norm()) < 1e-5
    free = (moved @ directions[rank:].T).square().mean(0)
    assert float(free.max() / free.min()) < 2, "isotropic: 256 draws in each direction"


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(4, 8, 3, padding=1, dilation=2, groups=4, bias=False),
        nn.Conv2d(4, 8, (1, 3), stride=(2, 4), padding=(0, 1), groups=2),
    ],
    ids=["strided", "depthwise and dilated", "grouped"],
)
def test_convolutions_of_any_kind(layer):
    """One picture of 4 x 4 pixels has fewer places than a kernel has weights."""
    net, chance = nn.Sequential(layer, nn.Flatten()), torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data.normal_(generator=chance)
    picture, other = torch.rand(2, 1, 4, 4, 4, generator=chance)
    outputs = net(picture).shape[1]
    victim = TorchOracle(net, input_shape=(4, 4, 4), classes=outputs)
    data = Dataset(picture, torch.zeros(1, dtype=torch.int64), tuple(map(str, range(outputs))))
    after = REMOVALS.make("randomise_boundary(norm=1.0, energy=1.0)")(victim, data, generator=chance)
    torch.testing.assert_close(after(picture), net(picture), rtol=0, atol=1e-4)
    assert float((after(other) - net(other)).abs().max()) > 0.1


def test_a_net_without_freedom_is_refused():
    chance = torch.Generator().manual_seed(0)
    data = tiny_data("attacker")
    data = Dataset(torch.rand(data.images.shape, generator=chance), data.labels, data.classes)
    net = build("mlp(width=4)", data.input_shape, 10, chance)
    fit(net, data, Schedule(epochs=1, learning_rate=0.01, shift=0), generator=chance)
    with pytest.raises(UsageError, match="give less energy or fewer pictures") as caught:
        randomised(net, data, energy=1.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", ["norm=0", "energy=0", "energy=1.5", "norm=-1"])
def test_sizes_are_checked(setting, victim, attacker_data):
    with pytest.raises(UsageError, match=r"(norm|energy) is a number above 0"):
        REMOVALS.make(f"randomise_boundary({setting})")(victim, attacker_data, generator=torch.Generator())


def test_padding_that_cannot_be_read_is_refused(attacker_data):
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(128, 10))
    victim = TorchOracle(net, input_shape=(1, 8, 8), classes=10)
    with pytest.raises(UsageError, match="padded by zeros"):
        REMOVALS.make("randomise_boundary")(victim, attacker_data, generator=torch.Generator())
