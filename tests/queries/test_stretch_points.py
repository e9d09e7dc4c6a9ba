"""The bounds of AnaFP against their formulas, and the choice between them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from whorl.errors import UsageError
from whorl.oracles.pool import Pool
from whorl.queries.deepfool import CROSS, deepfool
from whorl.queries.stretch import Constants, StretchedPoints, measure
from whorl.testing import tiny_data, tiny_pool, tiny_victim


@pytest.fixture(scope="module")
def victim():
    return tiny_victim()


@pytest.fixture(scope="module")
def pool():
    return tiny_pool()


def sampled(victim, pool, seed=0, **settings):
    generator = torch.Generator().manual_seed(seed)
    return StretchedPoints(**settings).sample_with(victim, tiny_data("victim"), pool, budget=20, generator=generator)


CONSTANTS = Constants(
    lengths=torch.tensor([0.5, 2.0]),
    growth=torch.tensor([4.0, 8.0]),
    shifts=torch.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]),
    margins=torch.tensor([[6.0, 9.0], [4.0, 3.0]]),
    slopes=torch.tensor([[1.0, 0.5], [2.0, 0.25]]),
)


def test_bounds_are_the_formulas():
    """1 + 2 eps / (c |delta|) and m / (2 L |delta|), worked by hand."""
    assert CONSTANTS.lower(1.0).tolist() == [1 + 2 * 3 / (4 * 0.5), 1 + 2 * 6 / (8 * 2)]
    assert CONSTANTS.lower(0.5).tolist() == [1 + 2 * 2 / (4 * 0.5), 1 + 2 * 4 / (8 * 2)]
    assert CONSTANTS.upper(1.0).tolist() == [4 / (2 * 2 * 0.5), 3 / (2 * 0.5 * 2)]
    assert CONSTANTS.upper(0.0).tolist() == [6 / (2 * 1 * 0.5), 9 / (2 * 0.25 * 2)]


def test_where_an_independent_model_gives_another_class_nothing_is_unique():
    """And no bound is below 0, which no fingerprint holds."""
    wrong = dataclasses.replace(CONSTANTS, margins=torch.tensor([[6.0, -9.0], [-4.0, 3.0]]))
    assert wrong.upper(1.0).tolist() == [0, 0]
    assert wrong.upper(0.0).tolist() == [6 / (2 * 1 * 0.5), 3 / (2 * 0.25 * 2)]


def test_a_boundary_that_leads_nowhere_has_no_lower_bound_to_meet():
    """Where the victim does not gain past the boundary no stretch is robust."""
    falling = dataclasses.replace(CONSTANTS, growth=torch.tensor([-1.0, 0.0]))
    assert bool((falling.lower(0.5) > 1e5).all())


def test_bounds_hold_on_linear_models():
    """Where all models are linear the measured constants are true ones: no independent model crosses below tau_up."""
    victim, others = tiny_victim(architecture="mlp(width=32)"), [tiny_victim(seed=70 + k) for k in range(4)]
    end = deepfool(victim.differentiable(), tiny_data("victim").inputs(slice(0, 40)))
    constants = measure(victim, Pool({"none": [victim]}, others), end)
    assert float(constants.shifts.max()) < 1e-4, "the victim itself does not shift"
    assert float((constants.lower(1.0) - 1).abs().max()) < 1e-2
    for row, model in enumerate(others):
        logits = model.logits(end.inputs)
        top = logits.topk(2).values
        same = logits.argmax(1) == end.source
        torch.testing.assert_close(constants.margins[row][same], (top[:, 0] - top[:, 1])[same], rtol=1e-4, atol=1e-4)
        assert bool((constants.margins[row][~same] < 0).all())
        moved = (model.scores(end.points(CROSS)) - model.scores(end.inputs)).abs().amax(1)
        torch.testing.assert_close(constants.slopes[row] * (1 + CROSS) * constants.lengths, (1 + CROSS) * moved)


def test_every_stretch_is_between_its_bounds(victim, pool):
    queries = sampled(victim, pool)
    lower, upper, stretch = (queries.companions[name] for name in ("lower", "upper", "stretch"))
    feasible = lower <= upper
    assert queries.notes["feasible"] == pytest.approx(float(feasible.float().mean()))
    assert bool(((lower <= stretch) & (stretch <= upper))[feasible].all())
    assert float(stretch.std()) > 0
    assert bool((stretch >= 1).all())


def test_points_are_their_seeds_moved_by_the_stretch(victim, pool):
    queries = sampled(victim, pool)
    end = deepfool(victim.differentiable(), queries.companions["seeds"])
    stretch = queries.companions["stretch"][:, None, None, None]
    torch.testing.assert_close(queries.inputs, end.points(stretch - 1), rtol=0, atol=1e-3)
    assert torch.equal(queries.companions["source"], victim.labels(queries.companions["seeds"]))
    assert bool((queries.companions["source"] != queries.companions["target"]).all())


def test_anchors_lead_by_the_margin(victim, pool):
    data = tiny_data("victim")
    queries = sampled(victim, pool, margin=1.0)
    top = victim.logits(queries.companions["seeds"]).topk(2).values
    everything = victim.logits(data.inputs()).topk(2).values
    least = float((top[:, 0] - top[:, 1]).min())
    assert least > 0.8 * float((everything[:, 0] - everything[:, 1]).median())
    with pytest.raises(UsageError, match="lower margin"):
        sampled(victim, pool, margin=100.0)


def test_less_uniqueness_leaves_more_room_to_be_robust(victim, pool):
    strict, lax = sampled(victim, pool), sampled(victim, pool, uniqueness=0.5)
    assert lax.notes["robustness"] >= strict.notes["robustness"]
    assert float(lax.companions["stretch"].median()) > float(strict.companions["stretch"].median())


def test_a_pool_without_independents_is_refused(victim, pool):
    with pytest.raises(UsageError, match="independent"):
        sampled(victim, Pool(pool.derived, []))
