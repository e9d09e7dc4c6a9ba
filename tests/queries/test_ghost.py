"""Ghost networks against erosion written by hand, and MI-FGSM against foolbox."""

from __future__ import annotations

import foolbox
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, relu

from whorl.errors import UsageError
from whorl.nets.training import build
from whorl.oracles.torch import TorchOracle, frozen
from whorl.queries.ghost import Ghost, GhostNet
from whorl.testing import tiny_data, tiny_victim

EPSILON = 0.1


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def untrained(architecture):
    return build(architecture, (1, 8, 8), 10, chance()).eval()


def sampled(victim, *, seed=0, budget=40, **settings):
    settings = {"epsilon": EPSILON, "candidates": 1.0} | settings
    return Ghost(**settings).sample(victim, tiny_data("victim"), budget=budget, generator=chance(seed))


@pytest.fixture(scope="module")
def victim():
    return tiny_victim()


@pytest.fixture(scope="module")
def pictures():
    return tiny_data("test").inputs(slice(0, 20))


def test_without_erosion_one_step_is_foolboxs_targeted_step(victim):
    queries = sampled(victim, erosion=0.0, steps=1)
    attack = foolbox.attacks.LinfMomentumIterativeFastGradientMethod(
        momentum=1.0, abs_stepsize=EPSILON, steps=1, random_start=False
    )
    # Candidates come back the surest first, so foolbox starts from the seeds in that order.
    model = foolbox.PyTorchModel(victim.differentiable(), bounds=(0, 1))
    goal = foolbox.criteria.TargetedMisclassification(queries.companions["target"])
    expected, _, _ = attack(model, queries.companions["seeds"], goal, epsilons=EPSILON)
    assert float(((queries.inputs - expected).abs() <= 1e-6).float().mean()) > 0.999


def test_steps_of_several_are_mi_fgsm_picture_by_picture(victim):
    """Dong et al., algorithm 1, written for one picture; theirs divides by the L1 norm, which sets no sign."""
    queries, model = sampled(victim, erosion=0.0, steps=5, momentum=0.7, budget=6), victim.differentiable()
    for mark, seed, target in zip(queries.inputs, *map(queries.companions.get, ("seeds", "target")), strict=True):
        point, gathered = seed[None], torch.zeros_like(seed[None])
        for _ in range(5):
            point.requires_grad_()
            (slope,) = torch.autograd.grad(cross_entropy(model(point), target[None]), point)
            gathered = 0.7 * gathered + slope / slope.abs().sum()
            point = (point.detach() - EPSILON / 5 * gathered.sign()).clamp(seed - EPSILON, seed + EPSILON).clamp(0, 1)
        assert float(((mark - point[0]).abs() <= 1e-6).float().mean()) > 0.95


def test_marks_stay_in_reach_and_most_arrive(victim):
    queries = sampled(victim, candidates=4.0)
    assert float((queries.inputs - queries.companions["seeds"]).abs().max()) <= EPSILON + 1e-6
    arrived = victim.labels(queries.inputs) == queries.companions["target"]
    assert queries.notes["kept_reached"] == pytest.approx(float(arrived.float().mean()), abs=0.03)
    assert queries.notes["kept_reached"] > queries.notes["reached"] > 0.1
    assert (queries.companions["target"] != queries.companions["source"]).all()


def test_ghosts_change_the_marks_and_obey_the_generator(victim):
    first, again, other = (sampled(victim, erosion=erosion).inputs for erosion in (0.3, 0.3, 0.0))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("architecture", ["resnet8(width=4)", "resnet14(width=4)", "wrn(depth=10, widen=1)"])
def test_skip_erosion_scales_the_shortcut_and_nothing_else(architecture, pictures):
    """With a factor of 0 a ghost is the net whose shortcuts are cut, found by hand in the untraced module."""
    net = untrained(architecture)
    ghost = GhostNet(frozen(net), 0.5, chance())
    assert len(ghost.shortcuts) == len(net.blocks)
    assert not ghost.maps
    ghost.scale = lambda values: values * 0
    expected = net.head(_without_shortcuts(net, (pictures - net.mean) / net.std))
    torch.testing.assert_close(ghost(pictures), expected, rtol=1e-4, atol=1e-4)


def _without_shortcuts(net, x):
    if hasattr(net, "norm"):
        x = net.stem(x)
        for block in net.blocks:
            x = block.conv2(relu(block.norm2(block.conv1(relu(block.norm1(x))))))
        return relu(net.norm(x)).mean((2, 3))
    x = net.stem(x)
    for block in net.blocks:
        x = relu(block.norm2(block.conv2(relu(block.norm1(block.conv1(x))))))
    return x.mean((2, 3))


def test_factors_are_one_per_picture_and_span_the_erosion():
    ghost = GhostNet(frozen(untrained("resnet8(width=4)")), 0.3, chance())
    scaled = ghost.scale(torch.ones(2000, 3, 2, 2))
    assert (scaled == scaled[:, :1, :1, :1]).all()
    assert 0.7 <= float(scaled.min()) < 0.71
    assert 1.29 < float(scaled.max()) <= 1.3


@pytest.mark.parametrize(("architecture", "maps"), [("vgg(width=4)", 6), ("lenet5", 4), ("mlp(width=16, depth=2)", 2)])
def test_nets_without_shortcuts_lose_parts_of_every_hidden_map(architecture, maps):
    ghost = GhostNet(frozen(untrained(architecture)), 0.25, chance())
    assert (len(ghost.shortcuts), len(ghost.maps)) == (0, maps)
    dropped = ghost.drop(torch.ones(100, 10, 4, 4))
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.02)


def test_modules_of_relu_count_as_well():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    assert len(GhostNet(frozen(net), 0.1, chance()).maps) == 1


@pytest.mark.parametrize("architecture", ["resnet8(width=4)", "vgg(width=4)"])
def test_an_erosion_of_almost_nothing_is_the_victim(architecture, pictures):
    model = frozen(untrained(architecture))
    torch.testing.assert_close(GhostNet(model, 1e-7, chance())(pictures), model(pictures), rtol=1e-4, atol=1e-4)


class Branching(nn.Module):
    """What torch.fx cannot follow."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(x.flatten(1)) if x.sum() > 0 else self.layer(-x.flatten(1))


def test_a_victim_that_cannot_be_traced_is_refused_by_ghosts_alone():
    victim = TorchOracle(Branching(), input_shape=(1, 8, 8), classes=10)
    with pytest.raises(UsageError, match=r"erosion=0"):
        sampled(victim, budget=3)
    assert len(sampled(victim, budget=3, erosion=0.0)) == 3


def test_a_victim_without_layers_to_erode_is_refused():
    victim = TorchOracle(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), input_shape=(1, 8, 8), classes=10)
    with pytest.raises(UsageError, match="neither"):
        sampled(victim, budget=3)


@pytest.mark.parametrize("settings", [{"erosion": 1.0}, {"erosion": -0.1}, {"steps": 0}])
def test_settings_without_a_meaning_are_refused(victim, settings):
    with pytest.raises(UsageError, match=r"erosion is a number|steps is a whole number"):
        sampled(victim, **settings)
