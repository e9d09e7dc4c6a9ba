"""Straight lines and curves between nets: analytic cases, statistics, and what alignment does."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from whorl.data import SOURCES
from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.training import Schedule, accuracy, build, fit
from whorl.symmetry.alignment.curves import Curve, connect
from whorl.symmetry.alignment.matching import match_weights
from whorl.symmetry.alignment.paths import Profile, barrier, interpolate, profile, recompute_statistics
from whorl.symmetry.alignment.permutations import permute, random_permutations
from whorl.symmetry.alignment.tracing import permutation_spec

SOURCE = SOURCES.make("digits")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pair():
    """Two nets of digits from other seeds, and the pictures."""
    data = SOURCE.load("victim")
    nets = []
    for seed in range(2):
        net = build("mlp(width=64, depth=2)", data.input_shape, 10, generator(seed))
        fit(net, data, Schedule(epochs=10, learning_rate=0.05), generator=generator(seed))
        nets.append(net)
    return (*nets, data)


def test_barriers_are_measured_from_the_line_between_the_ends():
    at = torch.linspace(0, 1, 5)
    bent = Profile(at, torch.tensor([1.0, 2.0, 5.0, 2.0, 2.0]), torch.tensor([0.9, 0.8, 0.3, 0.7, 0.8]))
    assert bent.loss_barrier == pytest.approx(3.5)
    assert bent.accuracy_barrier == pytest.approx(0.55)
    hanging = Profile(at, torch.tensor([1.0, 0.5, 0.2, 0.5, 1.0]), torch.ones(5))
    assert hanging.loss_barrier == 0


def test_the_line_of_a_linear_net_has_no_barrier():
    """Cross-entropy is convex in the weights of a linear net."""
    data = SOURCE.load("victim").subset(torch.arange(200))

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(torch.Size(data.input_shape).numel(), 10)

        def forward(self, x):
            return self.head(x.flatten(1))

    torch.manual_seed(0)
    one, other = Linear(), Linear()
    along = barrier(one, one.state_dict(), other.state_dict(), data)
    assert len(along.positions) == 25
    assert along.loss_barrier == pytest.approx(0, abs=1e-6)
    middle = Linear()
    middle.load_state_dict(interpolate(one.state_dict(), other.state_dict(), 0.5))
    assert float(along.losses[12]) == pytest.approx(cross_entropy(middle(data.inputs()), data.labels).item(), rel=1e-5)
    assert float(along.accuracies[12]) == pytest.approx(accuracy(middle, data))


def test_alignment_takes_the_barrier_of_a_scrambled_copy_away(pair):
    net, _, data = pair
    spec = permutation_spec(net)
    other = permute(net.state_dict(), spec, random_permutations(spec, generator()))
    assert barrier(net, net.state_dict(), other, data, points=5).loss_barrier > 0.5
    back = permute(other, spec, match_weights(net.state_dict(), other, spec, generator=generator()).permutations)
    assert barrier(net, net.state_dict(), back, data, points=5).loss_barrier < 1e-6


def test_alignment_lowers_the_barrier_of_independent_nets(pair):
    one, other, data = pair
    spec = permutation_spec(one)
    states = one.state_dict(), other.state_dict()
    found = match_weights(*states, spec, generator=generator())
    before = barrier(one, *states, data, points=9)
    after = barrier(one, states[0], permute(states[1], spec, found.permutations), data, points=9)
    assert after.loss_barrier < 0.5 * before.loss_barrier
    assert after.accuracy_barrier < before.accuracy_barrier


def test_statistics_are_those_of_the_pictures():
    net = build("vgg(width=4)", (3, 8, 8), 10, generator())
    inputs = torch.rand(100, 3, 8, 8, generator=generator())
    recompute_statistics(net, inputs)
    with torch.no_grad():
        first = net.convs[0]((inputs - net.mean) / net.std)
    torch.testing.assert_close(net.norms[0].running_mean, first.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(net.norms[0].running_var, first.var((0, 2, 3)), atol=1e-5, rtol=1e-3)
    assert not net.training
    assert net.norms[0].momentum == 0.1


def test_stale_statistics_do_not_show_in_a_barrier():
    data = Dataset(torch.rand(60, 3, 8, 8, generator=generator()), torch.arange(60) % 10, tuple("0123456789"), "noise")
    net = build("vgg(width=4)", (3, 8, 8), 10, generator())
    recompute_statistics(net, data.inputs())
    fresh = {tensor: value.clone() for tensor, value in net.state_dict().items()}
    stale = {tensor: value * 9 if "running" in tensor else value for tensor, value in fresh.items()}
    along = barrier(net, fresh, stale, data, points=3)
    torch.testing.assert_close(along.losses, along.losses[:1].expand(3), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["bezier", "chain"])
def test_a_curve_passes_its_ends_and_bends(kind):
    ends = [{"w": torch.tensor([0.0, 0.0])}, {"w": torch.tensor([2.0, 4.0])}, {"w": torch.tensor([4.0, 0.0])}]
    curve = Curve(kind, tuple(ends))
    assert curve(0)["w"].tolist() == [0, 0]
    assert curve(1)["w"].tolist() == [4, 0]
    assert curve(0.5)["w"].tolist() == ([2, 2] if kind == "bezier" else [2, 4])
    assert curve(0.25)["w"].tolist() == ([1, 1.5] if kind == "bezier" else [1, 2])


@pytest.mark.parametrize(("kind", "bends"), [("bezier", 3), ("chain", 3), ("bezier", 4)])
def test_a_trained_curve_goes_round_the_barrier(pair, kind, bends):
    one, other, data = pair
    states = one.state_dict(), other.state_dict()
    schedule = Schedule(epochs=10, learning_rate=0.05, batch=128)
    curve = connect(one, *states, data, generator=generator(), kind=kind, bends=bends, schedule=schedule)
    straight = barrier(one, *states, data, points=9)
    bent = profile(one, curve, data, positions=torch.linspace(0, 1, 9).tolist())
    assert bent.loss_barrier < 0.25 * straight.loss_barrier
    assert torch.equal(curve(0)["head.weight"], states[0]["head.weight"])
    assert torch.equal(curve(1)["head.weight"], states[1]["head.weight"])


def test_refusals(pair):
    one, _, data = pair
    state = one.state_dict()
    with pytest.raises(UsageError, match="nets of one architecture"):
        interpolate(state, {}, 0.5)
    with pytest.raises(UsageError, match="2 or more points"):
        barrier(one, state, state, data, points=1)
    with pytest.raises(UsageError, match="labelled pictures"):
        profile(one, lambda _: state, SOURCES.make("diabetes").load("test"), positions=[0, 1])
    with pytest.raises(UsageError, match="3 bends or more"):
        connect(one, state, state, data, generator=generator(), bends=2)
