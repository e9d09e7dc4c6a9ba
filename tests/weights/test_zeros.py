"""Zeros: numbers that were taken away, and those that a base had, or that coarse rounding left."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from whorl.weights.comparison import compare

SHAPES = {
    f"blocks.{n}.{name}.weight": shape for n in range(3) for name, shape in (("up", (96, 64)), ("down", (64, 96)))
}


def drawn(of, seed=0):
    chance = torch.Generator().manual_seed(seed)
    return {name: of(torch.randn(shape, generator=chance)) for name, shape in SHAPES.items()}


def changed(net, of):
    chance = torch.Generator().manual_seed(9)
    return {name: of(value, torch.randn(value.shape, generator=chance)) for name, value in net.items()}


def pruned(value, share=0.4):
    return value * (value.abs() >= value.abs().flatten().quantile(share))


def rounded(value):
    step = value.abs().amax(1, keepdim=True) / 7
    return (value / step).round() * step


def told(tmp_path, one, two):
    for name, net in (("a", one), ("b", two)):
        save_file(net, tmp_path / f"{name}.safetensors")
    found = compare(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert found.decision == "related"
    return {each.name: (each.first, each.told) for each in found.operations}


def test_a_tune_of_a_base_that_has_zeros_is_not_pruned_either_way(tmp_path):
    """It fills them, by as much as it moves all else."""
    base = drawn(lambda value: value * (torch.arange(value.shape[1]) >= 8))
    tune = changed(base, lambda value, noise: value + 0.05 * noise)
    assert set(told(tmp_path, base, tune)) == {"tuned"}
    assert set(told(tmp_path, tune, base)) == {"tuned"}


@pytest.mark.parametrize("share", [0.03, 0.4, 0.95])
def test_what_was_pruned_is_told_and_who_came_first_where_the_rest_is_unchanged(tmp_path, share):
    base = drawn(lambda value: value)
    less = changed(base, lambda value, _: pruned(value, share))
    assert told(tmp_path, base, less)["pruned"] == ("A first", f"{share:.0%} of B is zero, the rest is unchanged")
    assert told(tmp_path, less, base)["pruned"][0] == "B first"


def test_a_few_zeros_are_not_pruning(tmp_path):
    """Nor are zeros of which both nets have as many, wherever."""
    base = drawn(lambda value: value)
    assert "pruned" not in told(tmp_path, base, changed(base, lambda value, _: pruned(value, 0.01)))
    first = {name: pruned(value) if ".up." in name else value for name, value in base.items()}
    other = {name: pruned(value) if ".down." in name else value for name, value in base.items()}
    assert "pruned" not in told(tmp_path, first, other)


def test_what_was_tuned_before_or_after_it_was_pruned_is_told_without_a_first(tmp_path):
    base = drawn(lambda value: value)
    before = changed(base, lambda value, noise: pruned(value + 0.05 * noise))
    after = changed(base, lambda value, noise: pruned(value) + 0.05 * noise * (pruned(value) != 0))
    for each in (before, after):
        assert told(tmp_path, base, each)["pruned"][0] == "undetermined"


def test_four_bits_of_a_net_that_began_at_the_identity_are_not_pruned(tmp_path):
    """Beside the ones of its diagonal nearly all of a row is rounded to zero: too few numbers to show a grid by."""
    base = drawn(lambda value: value)
    odd = {name: torch.eye(96) + 0.02 * torch.randn(96, 96) for name in ("a.weight", "b.weight", "c.weight")}
    few = {name: rounded(value) for name, value in odd.items()}
    assert all((value != 0).float().mean() < 0.05 for value in few.values())
    tune = changed(base, lambda value, noise: value + 0.01 * noise)
    assert "pruned" not in told(tmp_path, {**base, **odd}, {**tune, **few})


@pytest.mark.parametrize(("count", "first"), [(1, "A first"), (400, "undetermined")])
def test_who_came_first_is_told_where_all_but_one_in_ten_thousand_of_the_rest_is_equal(tmp_path, count, first):
    """Of 22,118 numbers that were left one moved a little, or two in a hundred did."""
    base = drawn(lambda value: value)
    less = changed(base, lambda value, _: pruned(value))
    name = next(iter(less))
    places = less[name].flatten().nonzero().flatten()[:count]
    less[name] = less[name].flatten().index_add(0, places, torch.full((count,), 0.01)).view(SHAPES[name])
    assert told(tmp_path, base, less)["pruned"][0] == first
