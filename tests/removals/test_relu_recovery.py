"""Knots, hyperplanes and the net that follows from them, against nets whose weights are known."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import AccessRefused, UsageError
from whorl.nets import NETS
from whorl.nets.training import build, predict
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import Wrapper
from whorl.removals import REMOVALS
from whorl.removals.knots import asking, find_hyperplane, find_knots
from whorl.removals.relu import RecoverRelu
from whorl.types import Access

NOISE = 2e-6
SHAPE = (1, 3, 4)


def known(width=5, *, seed=0, access=Access.LOGITS, classes=4):
    """An oracle around a perceptron with random weights and biases, and its rows and offsets for raw inputs."""
    generator = torch.Generator().manual_seed(seed)
    net = build(f"mlp(width={width})", SHAPE, classes, generator)
    net.layers[0].bias.data.copy_(torch.randn(width, generator=generator))
    rows = (net.layers[0].weight / net.std.item()).detach().double()
    offsets = net.layers[0].bias.detach().double() - rows.sum(1) * net.mean.item()
    victim = TorchOracle(net, input_shape=SHAPE, classes=classes, access=access, name="the perceptron")
    return victim, rows, offsets


def line(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return 0.5 + torch.randn(12, generator=generator).double() / 2, torch.randn(12, generator=generator).double()


def test_knots_are_where_units_switch():
    """Of 20 nets; where two knots lie side by side, or the logits hardly turn, float32 hides or doubles one."""
    seen, clean = [], []
    for seed in range(20):
        victim, rows, offsets = known(seed=seed)
        start, way = line(seed)
        true = -(rows @ start + offsets) / (rows @ way)
        found = find_knots(asking(victim), start, way, reach=2048.0, noise=NOISE)
        near = (found - true[:, None]).abs() < 1e-3 * (1 + true.abs()[:, None])
        seen += near.any(1).tolist()
        clean.append(len(found) == len(true) and bool(near.any(1).all()))
    assert sum(seen) >= 0.95 * len(seen)
    assert sum(clean) >= 15


def test_knots_beyond_reach_are_not_looked_for():
    victim, rows, offsets = known()
    start, way = line()
    start = start - 10 * way
    true = -(rows @ start + offsets) / (rows @ way)
    assert ((true > 4) & (true < 2000)).any()
    assert len(find_knots(asking(victim), start, way, reach=4.0, noise=NOISE)) == int((true.abs() <= 4).sum())


def test_an_affine_victim_has_no_knot():
    victim, _, _ = known()
    victim._module.head.weight.data.zero_()
    start, way = line()
    assert len(find_knots(asking(victim), start, way, reach=2048.0, noise=NOISE)) == 0


def test_the_hyperplane_is_the_row_of_the_unit_that_switches():
    victim, rows, offsets = known()
    start, way = line()
    knots = -(rows @ start + offsets) / (rows @ way)
    gaps = (knots[:, None] - knots).abs().fill_diagonal_(torch.inf).amin(1)
    generator = torch.Generator().manual_seed(0)
    for knot, gap, row, offset in zip(knots, gaps, rows, offsets, strict=True):
        point, side = start + (knot + 1e-4) * way, gap / 2 * way  # a knot is never found exactly
        normal, place, impurity = find_hyperplane(asking(victim), point, side, noise=NOISE, generator=generator)
        sign = (normal @ row).sign()
        assert torch.allclose(sign * normal, row / row.norm(), atol=1e-3)
        assert float(sign * place) == pytest.approx(float(offset / row.norm()), abs=1e-3)
        assert impurity < 0.01


def test_two_units_between_the_clouds_are_told_from_one():
    victim, rows, offsets = known()
    start, way = line()
    knots = (-(rows @ start + offsets) / (rows @ way)).sort().values
    first, second = knots[1:3]
    side = (second - first) * 0.7 * way
    _, _, impurity = find_hyperplane(
        asking(victim),
        start + (first + second) / 2 * way,
        side,
        noise=NOISE,
        generator=torch.Generator().manual_seed(0),
    )
    assert impurity > 0.1


@pytest.mark.parametrize(("width", "seed"), [(1, 0), (5, 1), (5, 2), (12, 3)])
def test_every_weight_comes_back_but_for_order_and_scale(width, seed):
    victim, rows, offsets = known(width, seed=seed)
    net = RecoverRelu(width=width)(victim, None, generator=torch.Generator().manual_seed(seed))
    inputs = torch.rand(200, *SHAPE)
    answers = victim.logits(inputs)
    assert float((predict(net, inputs) - answers).abs().max()) < 1e-3 * float(answers.abs().max())
    mine = torch.cat([rows, offsets[:, None]], 1)
    theirs = torch.cat([net.layers[0].weight / net.std.item(), net.layers[0].bias[:, None]], 1).detach().double()
    theirs[:, -1] -= theirs[:, :-1].sum(1) * net.mean.item()
    mine, theirs = (torch.nn.functional.normalize(each, dim=1) for each in (mine, theirs))
    cosines = mine @ theirs.T
    assert cosines.amax(1).min() > 1 - 1e-5, "signs included"
    assert sorted(cosines.argmax(1).tolist()) == list(range(width))


def test_units_to_spare_do_no_harm():
    victim, _, _ = known(3)
    net = RecoverRelu(width=6)(victim, None, generator=torch.Generator().manual_seed(0))
    inputs = torch.rand(100, *SHAPE)
    assert float((predict(net, inputs) - victim.logits(inputs)).abs().max()) < 1e-2


def test_a_victim_without_knots_is_recovered_by_units_that_are_always_on():
    victim, _, _ = known(4)
    victim._module.layers[0].bias.data.fill_(1e6)
    victim._module.head.bias.data.copy_(-1e6 * victim._module.head.weight.sum(1))
    net = RecoverRelu(width=4, noise=1e-4)(victim, None, generator=torch.Generator().manual_seed(0))
    inputs = torch.rand(100, *SHAPE)
    answers = victim.logits(inputs)
    assert float((predict(net, inputs) - answers).abs().max()) < 0.2 * float((answers - answers.mean(0)).abs().max())


class Clipped(Wrapper):
    """An interface that takes pictures only."""

    def __init__(self, inner):
        super().__init__(inner, access=Access.LOGITS)

    def _stream(self, inputs):
        yield from self.inner.stream(inputs.clamp(0, 1))


def test_clipped_inputs_stop_it():
    victim, _, _ = known(8)
    inputs = torch.rand(200, *SHAPE)
    errors = []
    for asked in (victim, Clipped(victim)):
        net = RecoverRelu(width=8, budget=20000)(asked, None, generator=torch.Generator().manual_seed(0))
        errors.append(float((predict(net, inputs) - victim.logits(inputs)).abs().max()))
    assert errors[1] > 100 * errors[0]


@pytest.mark.parametrize("budget", [150, 800, 2000])
def test_the_budget_is_never_exceeded(budget):
    victim, _, _ = known()
    RecoverRelu(width=5, budget=budget)(victim, None, generator=torch.Generator().manual_seed(0))
    assert budget / 2 < victim.queries_spent <= budget


def test_the_net_is_what_the_outcome_says():
    victim, _, _ = known()
    removal = REMOVALS.make("recover_relu(width=5)")
    net = removal(victim, None, generator=torch.Generator().manual_seed(0))
    rebuilt = NETS.make(removal.outcome("resnet8"), input_shape=SHAPE, classes=4)
    assert rebuilt.load_state_dict(net.state_dict()).missing_keys == []


@pytest.mark.parametrize("expression", ["recover_relu(width=0)", "recover_relu(lines=0)", "recover_relu(budget=100)"])
def test_mistakes_cost_no_query(expression):
    victim, _, _ = known()
    with pytest.raises(UsageError, match="recover_relu"):
        REMOVALS.make(expression)(victim, None, generator=torch.Generator())
    assert victim.queries_spent == 0


def test_probabilities_are_too_little():
    victim, _, _ = known(access=Access.PROBABILITIES)
    with pytest.raises(AccessRefused, match="LOGITS"):
        RecoverRelu()(victim, None, generator=torch.Generator())
    assert victim.queries_spent == 0
