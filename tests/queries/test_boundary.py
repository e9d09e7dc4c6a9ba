"""The loss of IPGuard against its formula written out, and its points against what they promise."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import AccessRefused, UsageError
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly
from whorl.queries.base import choose_target, draw
from whorl.queries.boundary import Boundary, boundary_loss
from whorl.testing import tiny_data, tiny_victim
from whorl.types import Access


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def written_out(logits, i, j, k):
    """Equation 3, term by term."""
    largest_other = max(value for t, value in enumerate(logits) if t not in (i, j))
    return max(logits[i] - logits[j] + k, 0) + max(largest_other - logits[i], 0)


@pytest.mark.parametrize("shift", [0.0, -100.0, 100.0])
@pytest.mark.parametrize("margin", [0.0, 0.5, 10.0])
def test_loss_is_equation_3(shift, margin):
    """Shifted by -100 all logits are negative: what stands for left-out classes may not be 0."""
    logits = torch.randn(50, 6, generator=generator()) * 5 + shift
    source = torch.randint(6, (50,), generator=generator(1))
    target = (source + torch.randint(1, 6, (50,), generator=generator(2))) % 6
    losses = boundary_loss(logits, source, target, margin)
    rows = zip(logits.tolist(), source.tolist(), target.tolist(), strict=True)
    expected = torch.tensor([written_out(row, i, j, margin) for row, i, j in rows])
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-4)


def test_loss_of_two_classes_has_no_second_term():
    logits = torch.tensor([[1.0, 4.0], [4.0, 1.0]])
    losses = boundary_loss(logits, torch.tensor([0, 0]), torch.tensor([1, 1]), 2.0)
    assert losses.tolist() == [0.0, 5.0]


def test_loss_has_the_gradient_of_its_formula():
    logits = torch.randn(20, 5, generator=generator(), dtype=torch.float64, requires_grad=True)
    source, target = torch.zeros(20, dtype=torch.long), torch.full((20,), 3)
    assert torch.autograd.gradcheck(lambda x: boundary_loss(x, source, target, 1.0), logits)
    (slope,) = torch.autograd.grad(boundary_loss(logits, source, target, 1.0).sum(), logits)
    assert bool(slope.isfinite().all())


@pytest.mark.parametrize("rule", ["least-likely", "random"])
def test_target_is_never_the_source(rule):
    logits = torch.randn(2000, 4, generator=generator())
    target = choose_target(rule, logits, generator(1))
    assert bool((target != logits.argmax(1)).all())
    if rule == "least-likely":
        assert torch.equal(target, logits.argmin(1))
    else:
        steps = (target - logits.argmax(1)) % 4
        assert all(abs(int((steps == step).sum()) - 667) < 100 for step in (1, 2, 3)), "each other class alike"


def test_target_of_equal_logits_is_not_the_source():
    """A saturated victim may score several classes alike."""
    logits = torch.zeros(3, 4)
    for rule in ("least-likely", "random"):
        assert bool((choose_target(rule, logits, generator()) != logits.argmax(1)).all())


def test_unknown_target_is_refused():
    with pytest.raises(UsageError, match="least-likely or random"):
        Boundary(target="nearest")


def test_seeds_are_different_pictures_and_enough():
    data = tiny_data("queries")
    chosen = draw(data, len(data), generator())
    assert chosen.unique().numel() == len(data)
    with pytest.raises(UsageError, match=f"{len(data) + 1} seed pictures are needed"):
        draw(data, len(data) + 1, generator())


SAMPLER = Boundary(margin=1.0, learning_rate=0.01, iterations=300)


@pytest.fixture(scope="module")
def points():
    return SAMPLER.sample(tiny_victim(), tiny_data("victim"), budget=40, generator=generator())


def test_converged_points_satisfy_both_terms_on_the_victim(points, victim):
    """On the victim itself, not on the folded copy that the descent runs on."""
    done = points.companions["loss"] == 0
    assert float(done.float().mean()) == points.notes["converged"]
    assert points.notes["converged"] > 0.9
    logits = victim.logits(points.inputs[done])
    source, target = points.companions["source"][done], points.companions["target"][done]
    ordered = logits.argsort(dim=1, descending=True)
    assert torch.equal(ordered[:, 0], target), "the target leads"
    assert torch.equal(ordered[:, 1], source), "the source class comes second"
    lead = logits.gather(1, target[:, None]) - logits.gather(1, source[:, None])
    assert float(lead.min()) > SAMPLER.margin - 1e-3


def test_companions_tell_the_truth(points, victim):
    logits = victim.logits(points.companions["seeds"])
    assert torch.equal(points.companions["source"], logits.argmax(1))
    assert torch.equal(points.companions["target"], logits.argmin(1))
    top = logits.topk(2).values
    assert points.notes["median_logit_gap"] == pytest.approx(float((top[:, 0] - top[:, 1]).median()), rel=1e-4)
    losses = boundary_loss(
        victim.logits(points.inputs), points.companions["source"], points.companions["target"], SAMPLER.margin
    )
    torch.testing.assert_close(losses, points.companions["loss"], rtol=0, atol=1e-3)
    assert points.notes["passes"] >= len(points)


def test_points_stay_near_their_seeds(points):
    """One Adam step moves a pixel by about the learning rate at most."""
    moved = (points.inputs - points.companions["seeds"]).abs()
    assert float(moved.max()) > 0
    assert float(moved.flatten(1).mean(1).max()) < 0.5


def test_margin_in_units_of_the_victims_gap(victim):
    """Twice the logits give the same points when k follows the gap."""
    doubled = TorchOracle(_Doubled(victim.module), input_shape=(1, 8, 8), classes=10)
    sampler = Boundary(margin=0.2, unit="gap", learning_rate=0.01, iterations=20)
    first, second = (
        sampler.sample(each, tiny_data("victim"), budget=8, generator=generator()) for each in (victim, doubled)
    )
    assert first.notes["margin_in_logits"] == pytest.approx(0.2 * first.notes["median_logit_gap"])
    assert second.notes["margin_in_logits"] == pytest.approx(2 * first.notes["margin_in_logits"], rel=1e-4)
    torch.testing.assert_close(first.inputs, second.inputs, rtol=0, atol=1e-2)


class _Doubled(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return 2 * self.inner(x)


def test_over_provisioned_candidates_keep_the_first_to_arrive(victim):
    data = tiny_data("victim")
    exact = SAMPLER.sample(victim, data, budget=10, generator=generator())
    more = Boundary(margin=1.0, learning_rate=0.01, iterations=300, candidates=2.0)
    eager = more.sample(victim, data, budget=10, generator=generator())
    assert len(eager) == 10
    assert eager.notes["converged"] == 1.0
    assert bool((eager.companions["loss"] == 0).all())
    assert not torch.equal(exact.inputs, eager.inputs)


def test_noise_starts(victim):
    sampler = Boundary(start="noise", margin=1.0, learning_rate=0.01, iterations=5)
    points = sampler.sample(victim, tiny_data("victim"), budget=30, generator=generator())
    seeds = points.companions["seeds"]
    assert 0.4 < float(seeds.mean()) < 0.6
    assert float(seeds.std()) == pytest.approx(12**-0.5, abs=0.02)


def test_refusals(victim):
    with pytest.raises(UsageError, match="natural or noise"):
        Boundary(start="zero").sample(victim, tiny_data("victim"), budget=2, generator=generator())
    with pytest.raises(UsageError, match="logit or gap"):
        Boundary(unit="gaps").sample(victim, tiny_data("victim"), budget=2, generator=generator())
    for oracle in (tiny_victim(Access.LOGITS), LabelsOnly(victim)):
        with pytest.raises(AccessRefused, match=r"(?i)gradient"):
            Boundary().sample(oracle, tiny_data("victim"), budget=2, generator=generator())
        assert oracle.queries_spent == 0
