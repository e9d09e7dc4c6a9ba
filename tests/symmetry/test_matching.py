"""Matching: exact recovery, an objective that never falls, and assignments against brute force."""

from __future__ import annotations

import itertools
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from whorl.data import SOURCES
from whorl.errors import UsageError
from whorl.nets.modes import evaluating
from whorl.nets.training import Schedule, build, fit
from whorl.symmetry.alignment.activation_matching import match_activations
from whorl.symmetry.alignment.assignment import assign, assign_softly, match_layers
from whorl.symmetry.alignment.matching import match_weights
from whorl.symmetry.alignment.permutations import ABSENT, inverse, permute, random_permutations
from whorl.symmetry.alignment.straight_through import match_straight_through
from whorl.symmetry.alignment.tracing import permutation_spec

SHAPE = (3, 8, 8)
ARCHITECTURES = (
    "lenet5",
    "mlp(depth=3)",
    "mlp_regressor",
    "vgg",
    "vgg16(width=8)",
    "mobilenet",
    "resnet8",
    "resnet20",
    "wrn(depth=16, widen=2)",
    "autoencoded",
    "ensemble",
    "misinforming",
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def scrambled(architecture, seed=0):
    """A net, its permutations, its state, and the same with all units in another order."""
    net = build(architecture, SHAPE, 10, generator(seed)).eval()
    spec = permutation_spec(net)
    state = {tensor: value.contiguous() for tensor, value in net.state_dict().items()}
    return net, spec, state, permute(state, spec, random_permutations(spec, generator(seed + 1)))


@pytest.fixture(scope="module")
def trained():
    """Two small nets of digits from other seeds."""
    source = SOURCES.make("digits").load("victim")
    nets = []
    for seed in range(2):
        net = build("mlp(width=32, depth=2)", source.input_shape, 10, generator(seed))
        fit(net, source, Schedule(epochs=10, learning_rate=0.05), generator=generator(seed))
        nets.append(net)
    return (*nets, source)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_hidden_permutation_is_recovered_exactly(architecture):
    _, spec, state, other = scrambled(architecture)
    found = match_weights(state, other, spec, generator=generator())
    back = permute(other, spec, found.permutations)
    assert all(torch.equal(back[tensor], value) for tensor, value in state.items())
    whole = sum(float(state[tensor].double().square().sum()) for tensor in spec.learned)
    assert found.objective == pytest.approx(whole, rel=1e-5)


def test_it_is_recovered_under_noise():
    _, spec, state, other = scrambled("resnet8")
    noisy = {
        tensor: value + 0.3 * value.std() * torch.randn(value.shape, generator=generator()) if value.ndim > 1 else value
        for tensor, value in other.items()
    }
    found = match_weights(state, noisy, spec, generator=generator())
    back = permute(other, spec, found.permutations)
    assert all(torch.equal(back[tensor], value) for tensor, value in state.items())


def test_the_objective_never_falls(trained):
    one, other, _ = trained
    spec = permutation_spec(one)
    found = match_weights(one.state_dict(), other.state_dict(), spec, generator=generator())
    assert len(found.objectives) == 5
    assert found.objective == max(found.objectives)
    assert all(after >= before for before, after in pairwise(found.history))
    reached = permute(other.state_dict(), spec, found.permutations)
    inner = sum(float((one.state_dict()[tensor] * reached[tensor]).sum()) for tensor in spec.learned)
    assert found.objective == pytest.approx(inner, rel=1e-5)
    before = sum(float((one.state_dict()[tensor] * other.state_dict()[tensor]).sum()) for tensor in spec.learned)
    assert found.objective > 2 * before


def test_one_layer_is_matched_as_brute_force_does():
    one, other = (build("mlp(width=5)", SHAPE, 3, generator(seed)) for seed in range(2))
    spec = permutation_spec(one)
    states = one.state_dict(), other.state_dict()
    values = {}
    for order in itertools.permutations(range(5)):
        moved = permute(states[1], spec, {"layers.0": torch.tensor(order)})
        values[order] = sum(float((states[0][tensor] * moved[tensor]).sum()) for tensor in spec.learned)
    found = match_weights(*states, spec, generator=generator(), restarts=1)
    assert tuple(found.permutations["layers.0"].tolist()) == max(values, key=lambda order: values[order])


def test_a_permutation_on_both_sides_of_a_tensor():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again, self.head = nn.Linear(6, 9), nn.Linear(9, 9), nn.Linear(9, 3)

        def forward(self, x):
            x = self.first(x)
            return self.head(x + self.again(x.tanh()))

    torch.manual_seed(0)
    net = Recurrent()
    spec = permutation_spec(net, (torch.rand(2, 6),))
    assert spec.axes("again.weight") == ("first", "first")
    other = permute(net.state_dict(), spec, random_permutations(spec, generator()))
    found = match_weights(net.state_dict(), other, spec, generator=generator())
    assert all(after >= before for before, after in pairwise(found.history))
    back = permute(other, spec, found.permutations)
    assert all(torch.equal(back[tensor], value) for tensor, value in net.state_dict().items())


def test_a_narrowed_net_finds_its_units():
    wide = build("vgg(width=8)", SHAPE, 10, generator())
    spec = permutation_spec(wide)
    kept = {name: torch.randperm(size, generator=generator(1))[: size // 2] for name, size in spec.sizes.items()}
    narrow = permute(wide.state_dict(), spec, kept)
    small = permutation_spec(build("vgg(width=4)", SHAPE, 10, generator()))
    found = match_weights(narrow, wide.state_dict(), small, other_spec=spec, generator=generator())
    assert all(torch.equal(found.permutations[name], index) for name, index in kept.items())
    grown = match_weights(wide.state_dict(), narrow, spec, other_spec=small, generator=generator())
    for name, index in grown.permutations.items():
        expected = torch.full((spec.sizes[name],), ABSENT)
        expected[kept[name]] = torch.arange(len(kept[name]))
        assert torch.equal(index, expected)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(
    "architecture", ["lenet5", "mlp(depth=3)", "vgg", "mobilenet", "resnet8", "wrn(depth=10, widen=1)"]
)
def test_answers_recover_a_hidden_permutation(architecture, centred):
    net, spec, _, other = scrambled(architecture)
    twin = build(architecture, SHAPE, 10, generator())
    twin.load_state_dict(other)
    inputs = torch.rand(60, *SHAPE, generator=generator())
    found = match_activations(net, twin, spec, inputs, centred=centred, batch=25)
    twin.load_state_dict(permute(other, spec, found.permutations))
    with torch.no_grad(), evaluating(net, twin):
        torch.testing.assert_close(twin(inputs), net(inputs), rtol=1e-4, atol=1e-4)


def test_correlation_is_that_of_numpy():
    import numpy as np

    nets = [build("mlp(width=7)", SHAPE, 10, generator(seed)).eval() for seed in range(2)]
    spec, inputs = permutation_spec(nets[0]), torch.rand(40, *SHAPE, generator=generator())
    hidden = [net.features(inputs).detach().numpy() for net in nets]
    with np.errstate(invalid="ignore"):
        table = np.nan_to_num(np.corrcoef(hidden[0].T, hidden[1].T)[:7, 7:])
    found = match_activations(*nets, spec, inputs, batch=17)
    assert found.objective == pytest.approx(
        max(table[range(7), order].sum() for order in itertools.permutations(range(7)))
    )


def test_straight_through_lowers_the_loss_halfway(trained):
    one, other, source = trained
    spec = permutation_spec(one)
    found = match_straight_through(
        one, other.state_dict(), spec, source, generator=generator(), epochs=4, learning_rate=0.05
    )
    losses = {}
    for name, state in (
        ("unaligned", other.state_dict()),
        ("random", permute(other.state_dict(), spec, random_permutations(spec, generator()))),
        ("found", permute(other.state_dict(), spec, found.permutations)),
    ):
        middle = build("mlp(width=32, depth=2)", source.input_shape, 10, generator())
        middle.load_state_dict({tensor: (value + state[tensor]) / 2 for tensor, value in one.state_dict().items()})
        losses[name] = float(cross_entropy(middle(source.inputs()), source.labels).detach())
    assert losses["found"] < 0.5 * min(losses["unaligned"], losses["random"])
    assert len(found.history) == 4
    assert found.objective == max(found.history)
    assert all(sorted(index.tolist()) == list(range(len(index))) for index in found.permutations.values())


def test_assignment_is_that_of_brute_force():
    table = torch.randn(4, 6, generator=generator())
    best = max(itertools.permutations(range(6), 4), key=lambda order: float(table[range(4), order].sum()))
    assert tuple(assign(table).tolist()) == best
    turned = assign(table.T)
    assert (turned == ABSENT).sum() == 2
    assert all(turned[column] == row for row, column in enumerate(best))


def test_soft_assignment():
    table = torch.randn(5, 8, generator=generator())
    plan = assign_softly(table, sharpness=5.0)
    torch.testing.assert_close(plan.sum(1), torch.full((5,), 1 / 5, dtype=torch.float64), atol=1e-7, rtol=0)
    torch.testing.assert_close(plan.sum(0), torch.full((8,), 1 / 8, dtype=torch.float64), atol=1e-7, rtol=0)
    ratio = plan[:-1, :-1] * plan[1:, 1:] / (plan[:-1, 1:] * plan[1:, :-1])  # the form of an entropic optimum
    tilt = 5.0 * (table[:-1, :-1] + table[1:, 1:] - table[:-1, 1:] - table[1:, :-1]).double()
    torch.testing.assert_close(ratio.log(), tilt, atol=1e-5, rtol=0)
    square = torch.randn(6, 6, generator=generator())
    sharp = assign_softly(square, sharpness=100.0, iterations=10_000)
    assert torch.equal(sharp.argmax(1), assign(square))
    with pytest.raises(UsageError, match="sharpness"):
        assign_softly(square, sharpness=0)


@pytest.mark.parametrize("skip", [0.0, 0.1])
def test_layers_are_matched_as_brute_force_does(skip):
    table = torch.randn(4, 6, generator=generator(3))

    def paths():
        for count in range(5):
            for rows in itertools.combinations(range(4), count):
                for columns in itertools.combinations(range(6), count):
                    yield list(zip(rows, columns, strict=True))

    def value(path):
        return sum(float(table[pair]) for pair in path) + skip * (10 - 2 * len(path))

    assert match_layers(table, skip=skip) == max(paths(), key=value)


def test_a_deeper_net_keeps_the_order_of_its_layers():
    deep = torch.nn.functional.normalize(torch.randn(7, 40, generator=generator()), dim=1)
    assert match_layers(deep[[1, 2, 4, 6]] @ deep.T, skip=0.2) == [(0, 1), (1, 2), (2, 4), (3, 6)]


def test_refusals():
    net, spec, state, other = scrambled("mlp")
    with pytest.raises(UsageError, match="at least 1 restart"):
        match_weights(state, other, spec, generator=generator(), restarts=0)
    with pytest.raises(UsageError, match=r"head.bias is missing"):
        match_weights({k: v for k, v in state.items() if k != "head.bias"}, other, spec, generator=generator())
    seven = build("mlp", SHAPE, 7, generator())
    with pytest.raises(UsageError, match="not of one architecture"):
        match_weights(state, seven.state_dict(), spec, generator=generator(), other_spec=permutation_spec(seven))
    with pytest.raises(UsageError, match="at least one picture"):
        match_activations(net, net, spec, torch.rand(0, *SHAPE))


def test_inverse_of_what_was_hidden():
    net = build("mlp(width=16)", SHAPE, 10, generator())
    spec = permutation_spec(net)
    hidden = random_permutations(spec, generator())
    found = match_weights(net.state_dict(), permute(net.state_dict(), spec, hidden), spec, generator=generator())
    assert torch.equal(found.permutations["layers.0"], inverse(hidden)["layers.0"])
