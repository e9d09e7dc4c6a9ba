"""Matching both axes of one tensor: invariances, recovery, brute force, and chance."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from whorl.weights.two_sided import _quantiles, balanced, match_sides


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def draw(seed, *shape):
    return torch.randn(shape, generator=seeded(seed))


def shuffled(weight, seed, rows=None, columns=None):
    """The tensor in another order on both axes (cut to some rows and columns), scaled; and the two orders."""
    chance = seeded(seed)
    up, across = (torch.randperm(size, generator=chance) for size in weight.shape[:2])
    up, across = up[:rows], across[:columns]
    factors = [10 ** (4 * torch.rand(len(each), generator=chance) - 2) for each in (up, across)]
    return weight[up][:, across] * factors[0][:, None, None] * factors[1][:, None], up, across


def test_balanced_tensors_have_one_norm_on_each_axis_whatever_the_factors():
    weight = draw(1, 12, 20, 9)
    moved, up, across = shuffled(weight, 2)
    found = balanced(weight, 60)
    assert torch.allclose(found.square().sum((0, 2)), torch.ones(20), atol=1e-5)
    assert torch.allclose(found.square().sum((1, 2)), torch.full((12,), 20 / 12), atol=1e-4)
    assert torch.allclose(balanced(moved, 60), found[up][:, across], atol=1e-4)


def test_silent_units_stay_silent():
    weight = draw(1, 12, 20, 1)
    weight[3], weight[:, 5] = 0, 0
    found = balanced(weight)
    assert found.isfinite().all()
    assert not found[3].any()
    assert not found[:, 5].any()


@pytest.mark.parametrize("places", [1, 9])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_shuffled_scaled_noisy_copy_is_put_in_order(places, noise):
    weight = draw(1, 40, 48, places)
    copy, up, across = shuffled(weight + noise * draw(2, 40, 48, places), 3)
    sides = match_sides(weight, copy, generator=seeded(9))
    assert torch.equal(up[sides.rows], torch.arange(40))
    assert torch.equal(across[sides.columns], torch.arange(48))


def test_a_copy_with_fewer_units_is_put_in_order_both_ways_round():
    weight = draw(1, 40, 48, 9)
    copy, up, across = shuffled(weight, 3, rows=25, columns=30)
    sides = match_sides(copy, weight, generator=seeded(9))
    assert torch.equal(sides.rows, up)
    assert torch.equal(sides.columns, across)
    back = match_sides(weight, copy, generator=seeded(9))
    assert (back.rows < 0).sum() == 15
    assert torch.equal(back.rows[up], torch.arange(25))


def test_no_order_is_better_than_the_one_of_a_copy():
    weight = draw(1, 4, 5, 3)
    copy, _, _ = shuffled(weight + 0.1 * draw(2, 4, 5, 3), 3)
    one, two = balanced(weight), balanced(copy)
    best = max(
        float((one * two[list(up)][:, list(across)]).sum())
        for up in permutations(range(4))
        for across in permutations(range(5))
    )
    sides = match_sides(weight, copy, generator=seeded(9))
    assert float((one * two[sides.rows][:, sides.columns]).sum()) == pytest.approx(best)


@pytest.mark.parametrize("dead", [0, 10])
def test_two_tensors_of_strangers_agree_on_one_unit_on_average_and_on_one_dead_one(dead):
    """Dead units are a class of their own, within which the order is as good as drawn."""
    agreed = []
    for trial in range(150):
        writers, readers = ([draw(4 * trial + net, 16, 16, 9) for net in nets] for nets in ((0, 1), (2, 3)))
        for weight in writers:
            weight[:dead] = 0
        for weight in readers:
            weight[:, :dead] = 0
        rows = match_sides(*writers, generator=seeded(2 * trial)).rows
        columns = match_sides(*readers, generator=seeded(2 * trial + 1)).columns
        agreed.append(float((rows == columns).sum()))
    assert abs(sum(agreed) / len(agreed) - (2 if dead else 1)) < 0.4  # some four standard errors


def test_as_many_quantiles_as_numbers_are_these_in_order_and_fewer_have_both_ends():
    weight = draw(1, 12, 9, 2)
    assert torch.allclose(_quantiles(weight, 9), weight.sort(1).values.flatten(1))
    ends = weight.amin(1), weight.median(1).values, weight.amax(1)
    assert torch.allclose(_quantiles(weight, 3), torch.stack(ends, 1).flatten(1))
