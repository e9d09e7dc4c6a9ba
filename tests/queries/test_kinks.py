"""Kinks are where the mathematics says: by hand, by autograd, and on nets of every kind."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu

from whorl.data import SOURCES
from whorl.errors import AccessRefused, UsageError
from whorl.nets.training import build
from whorl.oracles.torch import TorchOracle
from whorl.queries.kinks import Kinks, ReLUNet
from whorl.schemes.tafa import TAFA
from whorl.testing import tiny_victim

NOTHING = SOURCES.make("noise(shape=[1, 1, 8], count=1)").load("queries")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def oracle(module, shape, classes=1, task="regression"):
    return TorchOracle(module.eval(), input_shape=shape, classes=classes, task=task)


def lines(victim, *, budget=20, seed=0, **settings):
    return TAFA(**settings).sample(victim, NOTHING, budget=budget, generator=generator(seed))


class Hinges(nn.Module):
    """y = relu(x0 - 0.3) + 2 relu(0.7 - x1), whose bends can be told by hand."""

    def __init__(self):
        super().__init__()
        self.bends = nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, x):
        x = x.flatten(1)
        return (self.bends * torch.relu(torch.stack([x[:, 0] - 0.3, 0.7 - x[:, 1]], dim=1))).sum(1, keepdim=True)


def test_hinges_by_hand():
    queries = lines(oracle(Hinges(), (1, 1, 2)), budget=30, starts=1)  # all that are found
    points, unit = queries.inputs[:, 2].flatten(1), queries.companions["unit"][:, 1]
    assert set(unit.tolist()) == {0, 1}
    for number, coordinate, place, bend in ((0, 0, 0.3, 1.0), (1, 1, 0.7, 2.0)):
        rows = unit == number
        assert points[rows, coordinate].sub(place).abs().max() < 1e-6
        assert queries.companions["kink"][rows].sub(bend).abs().max() < 1e-5
        along = queries.companions["direction"][rows].flatten(1)[:, coordinate].abs()
        assert along.sub(1).abs().max() < 1e-6
    # The line stops at 0.9 of the way to the box (0.3 in the one case and in the other).
    assert queries.companions["spacing"].max() <= 0.9 * 0.3 / 2 + 1e-6


def kinks_by_autograd(net, points, units):
    """``a |grad z|`` of hidden units (layer, number) of a perceptron at points on their boundaries, in float64."""
    layers = [*net.layers, net.head]
    found = []
    for point, (layer, unit) in zip(points, units.tolist(), strict=True):
        x = ((point - net.mean) / net.std).flatten()
        patterns, h = [], x
        for number, each in enumerate(layers[:-1]):
            z = each.weight @ h + each.bias
            patterns.append((z > 0).double())
            if number == layer:
                patterns[-1][unit] = 1.0
                break
            h = z.relu()
        gradient = torch.eye(len(x), dtype=torch.float64)
        for number in range(layer):
            gradient = patterns[number][:, None] * (layers[number].weight @ gradient)
        gradient = layers[layer].weight[unit] @ gradient / net.std.flatten()
        h = (layers[layer].weight @ h + layers[layer].bias).relu()
        influence = torch.eye(len(h), dtype=torch.float64)[:, unit]
        for each in layers[layer + 1 : -1]:
            z = each.weight @ h + each.bias
            influence, h = (z > 0).double() * (each.weight @ influence), z.relu()
        found.append(net.head.weight @ influence * gradient.norm())
    return torch.stack(found)


def test_kinks_of_a_perceptron_are_the_outputs_slope_times_the_unit_s():
    net = build("mlp_regressor(width=16, depth=3)", (1, 1, 10), 3, generator())
    queries = lines(oracle(net, (1, 1, 10), 3), budget=40)
    net = net.double()
    with torch.no_grad():
        expected = kinks_by_autograd(net, queries.inputs[:, 2].double(), queries.companions["unit"])
        scores = net(queries.inputs.double().flatten(0, 1)).unflatten(0, (40, 5))
    assert set(queries.companions["unit"][:, 0].tolist()) == {0, 1, 2}
    torch.testing.assert_close(queries.companions["kink"].double(), expected, rtol=1e-5, atol=1e-6)
    bends = scores.diff(n=2, dim=1) / queries.companions["spacing"].double()[:, None, None]
    assert float(((bends[:, 1] - expected).norm(dim=1) / expected.norm(dim=1)).max()) <= 1e-4
    assert float((bends[:, [0, 2]].norm(dim=2) / expected.norm(dim=1)[:, None]).max()) <= 1e-4, "another bend"


@pytest.mark.parametrize("architecture", ["lenet5", "resnet8(width=4)", "vgg(width=4)", "wrn(depth=10, widen=1)"])
def test_convolutional_nets_bend_at_the_middle_only(architecture):
    """Norms, shortcuts and pooling; a line that a max-pool bends elsewhere is left out."""
    net = build(architecture, (1, 8, 8), 4, generator())
    queries = lines(oracle(net, (1, 8, 8), 4, "classification"), budget=8, starts=30)
    logits = net.double()(queries.inputs.double().flatten(0, 1)).unflatten(0, (8, 5)).detach()
    centred = logits - logits.mean(2, keepdim=True)
    bends = centred.diff(n=2, dim=1) / queries.companions["spacing"].double()[:, None, None]
    kink = queries.companions["kink"].double()
    error = (bends[:, 1] - kink).norm(dim=1) / kink.norm(dim=1)
    assert float(error.max()) == pytest.approx(queries.notes["largest_error"], rel=0.2)
    assert float(error.median()) <= 1e-3


def test_relus_are_seen_however_they_are_written():
    class Written(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.relu = nn.Linear(4, 4), nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.layer(x.flatten(1))
            return nn.functional.relu(torch.relu(self.relu(x) - 0.1).relu() - 0.1).sum(1, keepdim=True)

    net = ReLUNet(oracle(Written(), (1, 2, 2)))
    assert net.widths.tolist() == [4, 4, 4, 4]
    layer, unit = net.place(torch.tensor([0, 3, 4, 15]))
    assert (layer.tolist(), unit.tolist()) == ([0, 0, 1, 3], [0, 3, 0, 3])


class Smooth(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.layer, self.activation = nn.Linear(8, 4), activation

    def forward(self, x):
        return self.activation(self.layer(x.flatten(1)))


@pytest.mark.parametrize(
    ("activation", "says"), [(gelu, "gelu"), (nn.Tanh(), "tanh"), (nn.SiLU(), "silu"), (nn.Identity(), "has no ReLU")]
)
def test_nets_that_are_no_relu_nets_are_refused(activation, says):
    with pytest.raises(UsageError, match=says):
        lines(oracle(Smooth(activation), (1, 1, 8), 4))


def test_settings_and_victims_that_cannot_be():
    for points in (1, 4):
        with pytest.raises(UsageError, match="odd number"):
            lines(tiny_victim(), points=points)
    with pytest.raises(UsageError, match="ask for fewer"):
        lines(oracle(nn.Sequential(nn.Flatten(), nn.Linear(8, 2), nn.ReLU()), (1, 1, 8), 2), budget=5, iterations=1)
    assert issubclass(TAFA, Kinks)
    assert not TAFA.needs_data


def test_a_victim_that_is_no_module_is_refused():
    from whorl.oracles.wrappers import LabelsOnly

    with pytest.raises(AccessRefused):
        lines(LabelsOnly(tiny_victim()))
