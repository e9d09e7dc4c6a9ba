"""DeepFool against a linear net, where it is exact, and against foolbox."""

from __future__ import annotations

import foolbox
import pytest
import torch

from whorl.errors import UsageError
from whorl.queries.deepfool import CROSS, NUDGE, DeepFoolPoints, deepfool
from whorl.testing import tiny_data, tiny_victim

INPUTS = tiny_data("victim").inputs(slice(0, 40))


class Counting:
    """Counts the rows that go forward."""

    def __init__(self, model):
        self.model, self.rows = model, 0

    def __call__(self, x):
        self.rows += len(x)
        return self.model(x)


def linear(classes=5, pixels=16, seed=0):
    """A linear net around the middle of the box, so that no boundary lies outside of it."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, pixels, generator=generator)
    inputs = 0.5 + 0.02 * torch.randn(30, 1, 4, 4, generator=generator)
    return weight, (lambda x: (x.flatten(1) - 0.5) @ weight.T), inputs


def test_linear_net_is_crossed_in_one_step_at_its_true_distance():
    weight, model, inputs = linear()
    logits = model(inputs)
    source = logits.argmax(1)
    gaps = logits.gather(1, source[:, None]) - logits
    distances = gaps / (weight[source][:, None] - weight[None]).norm(dim=2)
    true, nearest = distances.scatter(1, source[:, None], torch.inf).min(1)
    end = deepfool(model, inputs)
    assert bool(end.crossed.all())
    assert torch.equal(end.source, source)
    assert torch.equal(end.target, nearest), "it enters the class whose boundary is nearest"
    torch.testing.assert_close(end.lengths, true + NUDGE, rtol=0, atol=1e-5)
    assert end.passes.tolist() == [4] * len(inputs), "one step, one backward pass for each other class"
    direction = weight[nearest] - weight[source]
    cosine = torch.nn.functional.cosine_similarity(end.changes.flatten(1), direction)
    torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=0, atol=1e-4)


def test_overshoot_stretches_the_change():
    _, model, inputs = linear()
    end = deepfool(model, inputs)
    torch.testing.assert_close(end.points(2.0) - inputs, 3 * end.changes, rtol=0, atol=1e-5)
    each = torch.linspace(0, 2, len(inputs))[:, None, None, None]
    torch.testing.assert_close(end.points(each)[-1:], end.points(2.0)[-1:])
    torch.testing.assert_close(end.points(each)[:1], end.points(0.0)[:1])


def test_candidates_are_the_likeliest_classes():
    _, model, inputs = linear()
    end = deepfool(model, inputs, candidates=2)
    torch.testing.assert_close(end.target, model(inputs).topk(2).indices[:, 1])
    assert bool((end.lengths >= deepfool(model, inputs).lengths - 1e-5).all())


@pytest.mark.parametrize("architecture", ["mlp(width=32)", "lenet5", "resnet8(width=4)"])
def test_agrees_with_foolbox(architecture):
    model = tiny_victim(architecture=architecture).differentiable()
    end = deepfool(model, INPUTS)
    attack = foolbox.attacks.L2DeepFoolAttack()
    labels = model(INPUTS).argmax(1)
    theirs, _, success = attack(foolbox.PyTorchModel(model, bounds=(0, 1)), INPUTS, labels, epsilons=None)
    assert torch.equal(end.crossed, success)
    assert float(end.crossed.float().mean()) > 0.5
    ours, reference = ((x - INPUTS)[success].flatten(1).norm(dim=1) for x in (end.points(), theirs))
    assert float(ours.median()) == pytest.approx(float(reference.median()), rel=0.05)
    assert float(((ours / reference - 1).abs() < 0.05).float().mean()) >= 0.95


def test_one_at_a_time_gives_the_same():
    model = tiny_victim().differentiable()
    together = deepfool(model, INPUTS[:8])
    alone = torch.cat([deepfool(model, x[None]).changes for x in INPUTS[:8]])
    torch.testing.assert_close(together.changes, alone, rtol=0, atol=1e-4)


def test_who_has_crossed_costs_nothing_more():
    """A forward pass to begin with; then, per step, one for the tangent and one for the check."""
    model = Counting(tiny_victim().differentiable())
    end = deepfool(model, INPUTS)
    steps = end.passes // 9
    assert int(steps.max()) > int(steps.min())
    assert model.rows == len(INPUTS) + 2 * int(steps.sum())


def test_points_stay_in_the_box_and_past_the_boundary():
    victim = tiny_victim()
    end = deepfool(victim.differentiable(), INPUTS)
    assert 0 <= float(end.points(5.0).min()) <= float(end.points(5.0).max()) <= 1
    assert torch.equal(victim.labels(end.points()), end.target)
    assert torch.equal(end.points(), end.points(CROSS))


def test_a_net_without_slope_is_left_alone():
    model = Counting(lambda x: 0 * x.flatten(1)[:, :3] + torch.tensor([1.0, 0.0, 0.0]))
    end = deepfool(model, INPUTS)
    assert not end.crossed.any()
    assert bool((end.changes == 0).all())
    assert model.rows == 3 * len(INPUTS), "given up after one step"


def test_one_class_is_refused():
    with pytest.raises(UsageError, match="two classes"):
        deepfool(lambda x: x.flatten(1)[:, :1], INPUTS)
    with pytest.raises(UsageError, match="two classes"):
        deepfool(lambda x: x.flatten(1)[:, :3], INPUTS, candidates=1)


def test_sampler_says_what_it_found():
    victim = tiny_victim()
    queries = DeepFoolPoints(overshoot=CROSS).sample(
        victim, tiny_data("victim"), budget=20, generator=torch.Generator().manual_seed(0)
    )
    seeds, crossed = queries.companions["seeds"], queries.companions["source"] != queries.companions["target"]
    assert queries.notes["converged"] == pytest.approx(float(crossed.float().mean()))
    assert torch.equal(victim.labels(seeds), queries.companions["source"])
    assert torch.equal(victim.labels(queries.inputs), queries.companions["target"])
    moved = (queries.inputs - seeds).flatten(1).norm(dim=1)
    torch.testing.assert_close(moved, (1 + CROSS) * queries.companions["distance"], rtol=1e-3, atol=1e-5)
