"""Gradients in parts: the same numbers, and less kept."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

import whorl
from whorl.nets import NETS
from whorl.nets.base import initialise
from whorl.oracles import bounded
from whorl.oracles.bounded import Bounded, kept
from whorl.oracles.torch import TorchOracle
from whorl.queries import conferrable, descent, sensitive
from whorl.queries.descent import descend
from whorl.schemes import SCHEMES, modelgif
from whorl.testing import tiny_pool, tiny_victim


@pytest.fixture(scope="module")
def net():
    net = NETS.make("resnet8(width=4)", input_shape=(3, 16, 16), classes=10)
    initialise(net, torch.Generator().manual_seed(0))
    return net.eval().requires_grad_(False)


def slopes(function, inputs):
    inputs = inputs.clone().requires_grad_()
    return torch.autograd.grad(function(inputs).square().sum(), inputs)[0]


@pytest.mark.parametrize("rows", [1, 3, 20])
def test_parts_have_the_same_answers_and_slopes(net, rows):
    inputs = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    each = kept(net, inputs[:2]) - kept(net, inputs[:1])
    parts = Bounded(net, target=rows * each)
    assert parts.rows(inputs) == rows
    torch.testing.assert_close(parts(inputs), net(inputs))
    torch.testing.assert_close(slopes(parts, inputs), slopes(net, inputs))


def test_a_graph_may_be_walked_once_for_every_class(net):
    """As DeepFool does, which keeps the graph."""
    inputs = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    for function in (net, Bounded(net, target=1)):
        logits = function(inputs)
        found = [torch.autograd.grad(logits[:, each].sum(), inputs, retain_graph=True)[0] for each in range(10)]
        if function is net:
            expected = found
    torch.testing.assert_close(found, expected)


def test_what_is_kept_does_not_grow_with_the_inputs(net):
    """Whatever the number of inputs, what the way back keeps is that of a part, beside inputs and answers."""
    target = 4 * (kept(net, torch.rand(2, 3, 16, 16)) - kept(net, torch.rand(1, 3, 16, 16)))
    whole, parts = (
        [kept(function, torch.rand(count, 3, 16, 16)) for count in (40, 80)] for function in (net, Bounded(net, target))
    )
    assert whole[1] > 1.8 * whole[0]
    own = torch.rand(80, 3, 16, 16).nbytes
    assert max(parts) < 2 * own + target
    assert parts[1] < whole[1] / 10


def test_nothing_of_what_was_counted_is_kept():
    """Neither the inputs nor what layers made of them, of which a ReLU keeps its own output for the way back."""
    seen = []
    relu = nn.ReLU()
    relu.register_forward_hook(lambda _module, _given, output: seen.append(weakref.ref(output)))
    inputs = torch.rand(2, 3, 16, 16)
    assert kept(nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.Flatten()), inputs) > 0
    assert [each() for each in seen] == [None]


class Hungry(nn.Module):
    """A net that has memory for a few rows only."""

    def __init__(self, most):
        super().__init__()
        self.most = most
        self.seen = []

    def forward(self, inputs):
        if len(inputs) > self.most:
            raise torch.OutOfMemoryError("no more")
        self.seen.append(len(inputs))
        return inputs.flatten(1).square()


def test_parts_are_halved_where_memory_runs_out():
    hungry = Hungry(most=5)
    inputs = torch.rand(16, 1, 2, 2)
    torch.testing.assert_close(Bounded(hungry)(inputs), inputs.flatten(1).square())
    assert max(hungry.seen) == 4
    with pytest.raises(torch.OutOfMemoryError):
        Bounded(Hungry(most=0))(inputs[:1])
    with pytest.raises(RuntimeError, match="shape"):  # any other mistake is told as it is
        Bounded(lambda rows: rows.view(7, 3))(inputs)


TOGETHER = ["igsm", "deepfool", "modeldiff(iterations=5)"]
IN_BLOCKS = [
    "ipguard(iterations=20)",
    "afa(erosion=0)",
    "cw-l2(iterations=10, searches=2)",
    "dataset-inference-white-box(fit=10, targets=2, iterations=5, rounds=10)",
    "multipoint(ties=3, iterations=20)",
]


@pytest.mark.parametrize("scheme", TOGETHER + IN_BLOCKS)
def test_a_small_target_gives_the_same_fingerprint(scheme, monkeypatch):
    """The victim's gradients in parts of one or two pictures."""
    found, moved = [], []
    for target in (bounded.TARGET, 1):
        seen = []
        monkeypatch.setattr(TorchOracle, "differentiable", _differentiable(target, seen))
        found.append(whorl.extract(tiny_victim(), data="digits(size=8)", scheme=scheme, budget=10))
        moved.append(max(seen))
    for one, other in zip(*(_tensors(each) for each in found), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert moved[0] >= 10
    assert (moved[1] == 1) == (scheme in IN_BLOCKS)


@pytest.mark.parametrize(
    ("scheme", "room"),
    [
        ("sensitive-samples(candidates=30, iterations=5)", sensitive),
        ("modelgif-selected(nodes=3)", modelgif),
        ("conferrable(iterations=3, dropout=0)", conferrable),
    ],
)
def test_so_does_what_is_no_gradient_of_the_victims_alone(scheme, room, monkeypatch):
    """Slopes of the sensitivity of its weights, or what a pool's models do beside it."""
    found, blocks = [], []

    def noted(move, count, most):
        blocks.append(most)
        return descent.in_blocks(move, count, most)

    monkeypatch.setattr(room, "in_blocks", noted)
    pool = tiny_pool() if SCHEMES.make(scheme).needs_pool else None
    for size in (descent.BLOCK, 1):
        monkeypatch.setattr(descent, "BLOCK", size)
        found.append(whorl.extract(tiny_victim(), data="digits(size=8)", scheme=scheme, budget=10, pool=pool))
    for one, other in zip(*(_tensors(each) for each in found), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert blocks[0] > 30
    assert blocks[1] == 1


def _tensors(fingerprint):
    return [fingerprint.queries.inputs, *fingerprint.queries.companions.values(), fingerprint.reference.values]


def _differentiable(target, seen):
    """The gradient in parts of that many bytes; ``seen`` gets how many rows were moved together."""
    plain = TorchOracle.differentiable

    def note(_module, given):
        if given[0].requires_grad:
            seen.append(len(given[0]))

    def differentiable(self):
        function = Bounded(plain(self).whole, target)
        function.register_forward_pre_hook(note)
        return function

    return differentiable


def test_answers_to_large_inputs_are_asked_in_parts_that_fit(net, monkeypatch):
    """The batch is the most; statistics of norms stay as they are, whatever mode the net is in."""
    asked = []
    net.register_forward_pre_hook(lambda _module, given: asked.append(len(given[0])))
    oracle = TorchOracle(net.train(), input_shape=(3, 16, 16), classes=10, batch=64)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    inputs = torch.rand(64, 3, 16, 16)
    whole = oracle.logits(inputs)
    assert asked == [64]
    asked.clear()
    monkeypatch.setattr("whorl.oracles.torch.LARGE", 1)
    monkeypatch.setattr("whorl.oracles.torch.TARGET", 10 * (kept(net.eval(), inputs[:2]) - kept(net, inputs[:1])))
    parts = TorchOracle(net.train(), input_shape=(3, 16, 16), classes=10, batch=64)
    asked.clear()
    torch.testing.assert_close(parts.logits(inputs), whole)
    assert asked == [2, 1, *[10] * 6, 4]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_blocks_end_where_all_would_together():
    start = torch.rand(12, 1, 3, 3, generator=torch.Generator().manual_seed(2))
    goals = torch.rand(12, 1, 3, 3, generator=torch.Generator().manual_seed(3))

    def loss(points, rows):
        return ((points - goals[rows]).square().flatten(1).sum(1) - 0.01).clamp_min(0)

    settings = {"learning_rate": 0.02, "iterations": 60}
    whole, blocks = (descend(start, loss, **settings, most=most) for most in (None, 5))
    torch.testing.assert_close(whole.points, blocks.points)
    torch.testing.assert_close(whole.losses, blocks.losses)
    assert torch.equal(whole.passes, blocks.passes)
    some = descend(start, loss, **settings, most=4, enough=3)
    assert int((some.losses == 0).sum()) >= 3
    assert (some.passes[8:] == 0).all()
