"""Ties and probes of linear models against algebra, steps against a reference solver, and the refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whorl.errors import AccessRefused, UsageError
from whorl.oracles.torch import TorchOracle
from whorl.queries.multipoint import Multipoint, Solver, balanced, least_norm
from whorl.testing import tiny_data, tiny_victim
from whorl.types import Access

PIXELS, CLASSES = 30, 6
RANK = 1e-5  # singular values below are the rounding of float32, in which the systems are made


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def weights():
    return torch.randn(PIXELS, CLASSES, generator=generator(3)) * 3


@pytest.fixture(scope="module")
def linear(weights):
    return lambda points: points.flatten(1) @ weights


@pytest.fixture(scope="module")
def start():
    """Grey pictures: far from the edges of the box, so that algebra alone says where they go."""
    return 0.5 + 0.02 * torch.randn(8, 1, 5, 6, generator=generator(4))


def centred_system(weights, chosen):
    rows = weights.T[chosen]
    return rows - rows.mean(1, keepdim=True)


@pytest.mark.parametrize("ties", range(2, CLASSES + 1))
def test_one_step_solves_a_linear_model_by_least_norm(linear, weights, start, ties):
    """Where no other class presses, the tie is the projection on {differences of the chosen logits = 0}."""
    chosen = linear(start).topk(ties).indices
    met = Solver(linear, tolerance=1e-3, clearance=-1e9, iterations=1, reach=1e9)(start, chosen, torch.zeros(8, ties))
    logits = linear(start).gather(1, chosen)
    residual = (logits - logits.mean(1, keepdim=True)).double().unsqueeze(2)
    system = centred_system(weights, chosen).double()
    expected = start.double().flatten(1) - torch.linalg.lstsq(
        system, residual, driver="gelsd", rcond=RANK
    ).solution.squeeze(2)
    assert 0 < float(expected.min())
    assert float(expected.max()) < 1
    free = met.misses <= 1e-3
    assert bool(free.any()), "some ties are above all other classes without being asked"
    torch.testing.assert_close(met.points.flatten(1)[free].double(), expected[free], rtol=0, atol=1e-5)


@pytest.mark.parametrize("ties", range(2, CLASSES + 1))
def test_classes_tie_above_all_others(linear, start, ties):
    chosen = linear(start).topk(ties).indices
    met = Solver(linear, tolerance=1e-3, clearance=0.5)(start, chosen, torch.zeros(8, ties))
    logits = linear(met.points)
    tied = logits.gather(1, chosen)
    assert float(met.misses.max()) <= 1e-3
    assert float((tied.amax(1) - tied.amin(1)).max()) <= 1e-3
    rest = logits.scatter(1, chosen, -torch.inf).amax(1)
    assert bool((rest <= tied.amin(1) + 1e-3).all())
    assert 0 <= float(met.points.min())
    assert float(met.points.max()) <= 1


def test_a_lead_is_kept_and_the_rivals_tie(linear, start):
    chosen = torch.arange(4).repeat(8, 1)
    lead = torch.tensor([0.0, 2.0, 0.0, 0.0]).repeat(8, 1)
    met = Solver(linear, tolerance=1e-3, clearance=0.5)(start, chosen, lead)
    logits = linear(met.points)
    rivals = logits[:, [0, 2, 3]]
    torch.testing.assert_close(logits[:, 1] - rivals.mean(1), torch.full((8,), 2.0), rtol=0, atol=2e-3)
    assert float(rivals.std(1).max()) < 1e-3


def test_what_cannot_meet_says_so():
    """One logit is always 1 above the other: the miss is 1, and the point stays where it was."""
    met = Solver(lambda x: x.flatten(1)[:, :1] @ torch.ones(1, 2) + torch.tensor([1.0, 0.0]), 0.01, 0.1, iterations=5)(
        torch.full((3, 1, 2, 2), 0.5), torch.tensor([[0, 1]] * 3), torch.zeros(3, 2)
    )
    torch.testing.assert_close(met.misses, torch.ones(3))
    assert bool((met.points == 0.5).all())


def test_a_point_that_arrives_costs_nothing_more(linear, start):
    """All but one start at a tie: each takes one forward pass, and only the first step differentiates it."""
    chosen = torch.arange(CLASSES).repeat(8, 1)
    solve = Solver(linear, tolerance=1e-3, clearance=0.0)
    first = solve(start, chosen, torch.zeros(8, CLASSES))
    mixed = torch.cat([first.points[:7], start[7:]])
    again = solve(mixed, chosen, torch.zeros(8, CLASSES))
    alone = solve(start[7:], chosen[7:], torch.zeros(1, CLASSES))
    assert again.forwards == 7 + alone.forwards
    torch.testing.assert_close(again.points[7:], alone.points, rtol=0, atol=1e-6)
    assert torch.equal(again.points[:7], first.points[:7])


@pytest.mark.parametrize("dependent", [False, True])
def test_least_norm_is_the_reference_solvers(dependent):
    system = torch.randn(5, 4, 20, generator=generator())
    if dependent:
        system = system - system.mean(1, keepdim=True)
    residual = (system @ torch.randn(5, 20, 1, generator=generator(1))).squeeze(2)
    inside = torch.full((5, 20), 0.5)
    expected = -torch.linalg.lstsq(
        system.double(), residual.double().unsqueeze(2), driver="gelsd", rcond=RANK
    ).solution.squeeze(2)
    torch.testing.assert_close(least_norm(system, residual, inside).double(), expected, rtol=0, atol=1e-5)


def test_pixels_at_the_edge_are_held_and_the_rest_solves():
    """Half of the pixels are 0 and may only grow; the equations hold after clipping all the same."""
    system = torch.randn(6, 3, 40, generator=generator(5))
    residual = torch.randn(6, 3, generator=generator(6)) * 0.1
    point = torch.where(torch.arange(40) < 20, 0.0, 0.5).repeat(6, 1)
    move = least_norm(system, residual, point)
    clipped = (point + move).clamp(0, 1) - point
    held = (system @ clipped.unsqueeze(2)).squeeze(2) + residual
    assert float(held.abs().max()) < 1e-4
    naive = -(torch.linalg.pinv(system) @ residual.unsqueeze(2)).squeeze(2)
    spoiled = (point + naive).clamp(0, 1) - point
    assert float(((system @ spoiled.unsqueeze(2)).squeeze(2) + residual).abs().max()) > 0.01


def test_labels_take_turns():
    labels = torch.randint(4, (40,), generator=generator())
    wanted = torch.rand(40, generator=generator(1)) < 0.7
    order = balanced(labels, wanted)
    assert sorted(order.tolist()) == list(range(40))
    assert bool(wanted[order[: int(wanted.sum())]].all())
    total = labels[wanted].bincount(minlength=4)
    for start in range(1, int(wanted.sum()) + 1):
        taken = labels[order[:start]].bincount(minlength=4)
        lasting = total > taken
        if lasting.any():
            assert int(taken.max()) - int(taken[lasting].min()) <= 1


@pytest.fixture(scope="module", params=[2, 3, 5, 10])
def probes(request):
    sampler = Multipoint(ties=request.param)
    return sampler, sampler.sample(tiny_victim(), tiny_data("victim"), budget=40, generator=generator())


def test_probes_hold_on_the_victim_itself(probes, victim):
    """On the victim, not on the folded copy that the steps run on."""
    sampler, queries = probes
    companions, notes = queries.companions, queries.notes
    assert notes["converged"] > 0.9
    assert notes["held"] > 0.9
    logits, target = victim.logits(queries.inputs), companions["target"]
    said = logits.argmax(1) == target
    assert bool(said[companions["holds"]].all())
    lead = logits.gather(1, target[:, None]).squeeze(1) - logits.scatter(1, target[:, None], -torch.inf).amax(1)
    assert float(lead[companions["holds"]].median()) == pytest.approx(notes["margin_in_logits"], rel=0.1)
    assert notes["margin_in_logits"] == pytest.approx(sampler.margin * notes["median_logit_gap"])
    assert 0 <= float(queries.inputs.min())
    assert float(queries.inputs.max()) <= 1


def test_probes_of_one_multipoint_are_of_different_classes(probes):
    sampler, queries = probes
    pairs = torch.stack([queries.companions["multipoint"], queries.companions["target"]], 1)
    assert len(pairs.unique(dim=0)) == len(queries)
    counts = queries.companions["target"].bincount(minlength=10)
    if sampler.ties == 10:
        assert counts.tolist() == [4] * 10


def test_rivals_of_a_probe_are_as_many_as_the_tie_has(probes, victim):
    """Of the k classes, all but the leader are level: within a fifth of the margin."""
    sampler, queries = probes
    logits = victim.logits(queries.inputs[queries.companions["holds"]]).sort(1, descending=True).values
    rivals = logits[:, 1 : sampler.ties]
    spread = rivals.amax(1) - rivals.amin(1)
    assert float(spread.median()) <= 0.2 * queries.notes["margin_in_logits"]


def test_a_victim_with_fewer_classes_ties_them_all():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(3, 64, generator=generator(7)))
        net[1].bias.zero_()
    oracle = TorchOracle(net, input_shape=(1, 8, 8), classes=3)
    queries = Multipoint().sample(oracle, tiny_data("victim"), budget=10, generator=generator())
    assert queries.notes["ties"] == 3
    assert queries.notes["held"] == 1.0
    assert sorted(queries.companions["target"].bincount().tolist()) == [3, 3, 4]


def test_steps_that_are_too_few_still_give_the_budget(victim):
    queries = Multipoint(iterations=0).sample(victim, tiny_data("victim"), budget=25, generator=generator())
    assert len(queries) == 25
    assert queries.notes["converged"] == 0.0
    assert queries.notes["held"] == 0.0


def test_margin_in_logits(victim):
    queries = Multipoint(ties=3, margin=1.5, unit="logit").sample(
        victim, tiny_data("victim"), budget=6, generator=generator()
    )
    assert queries.notes["margin_in_logits"] == 1.5


def test_refusals():
    data = tiny_data("victim")
    for broken, says in [({"ties": 1}, "at least 2"), ({"margin": 0.0}, "above 0"), ({"unit": "gaps"}, "logit or gap")]:
        with pytest.raises(UsageError, match=says):
            Multipoint(**broken)
    blind = tiny_victim(Access.LOGITS)
    with pytest.raises(AccessRefused, match=r"(?i)gradient"):
        Multipoint().sample(blind, data, budget=2, generator=generator())
    assert blind.queries_spent == 0
