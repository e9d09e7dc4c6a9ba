"""By how much of two nets something is told of them, and by which numbers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from test_history import lost, moved, read, told, write

from whorl.weights.changes import describe
from whorl.weights.comparison import compare
from whorl.weights.history import _moved, branch_point


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_where_two_nets_parted_is_told_by_tensors_as_far_as_they_moved():
    """Each by the square of its way: one that moved half as far counts a quarter."""
    one, two = (describe(f"layer {at} up", [(drawn(64, 64), drawn(64, 64, seed=1))], matrix=True) for at in (0, 1))
    far, near = replace(one, relative=0.4, branch=0.1, cosine=0.9), replace(two, relative=0.2, branch=0.6, cosine=0.9)
    assert branch_point([far, near]) == pytest.approx((4 * 0.1 + 1 * 0.6) / 5)


@pytest.mark.parametrize("more", [False, True])
def test_nets_too_small_for_any_test_are_one_where_all_that_either_has_is_equal_or_cast(more, tmp_path):
    tensors = {"a.weight": drawn(4, 4), "a.bias": drawn(4, seed=1)}
    save_file(tensors, tmp_path / "a.safetensors")
    halves = {name: value.half() for name, value in tensors.items()} | ({"b": drawn(3, seed=2)} if more else {})
    save_file(halves, tmp_path / "b.safetensors")
    found = compare(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert (found.decision, found.tested) == ("inconclusive", False)
    assert set(told(found)) == (set() if more else {"cast"})


@pytest.mark.parametrize("more", [False, True])
def test_so_are_nets_of_a_known_family_at_a_level_that_no_test_reaches(more, saved, tmp_path):
    config, tensors = read(saved("llama"))
    if more:
        del tensors["lm_head.weight"]
    halves = write(tmp_path / "b", config, {name: value.half() for name, value in tensors.items()})
    found = compare(saved("llama"), halves, alpha=1e-300)
    assert found.decision == "inconclusive"
    assert set(told(found)) == (set() if more else {"cast"})


@pytest.mark.parametrize("words", [("gate_proj",), ("gate_proj", "up_proj", "down_proj", "embed_tokens", "lm_head")])
def test_a_net_is_quantised_where_half_of_its_numbers_are(words, saved, tmp_path):
    config, tensors = read(saved("llama"))
    made = {
        name: lost(value, "quantised") if any(word in name for word in words) else value
        for name, value in moved(tensors, 0.05).items()
    }
    found = told(compare(saved("llama"), write(tmp_path / "b", config, made), layers=0))
    assert ("quantised" in found) == (len(words) > 1)


@pytest.mark.parametrize("count", [2, 3])
def test_three_tensors_that_are_the_others_less_an_orthogonal_part_are_no_chance(count, tmp_path):
    shapes = {"first.weight": (64, 48), "second.weight": (80, 64), "third.weight": (40, 80)}
    tensors = {name: drawn(*shapes[name], seed=at) for at, name in enumerate([*shapes][:count])}
    save_file(tensors, tmp_path / "a.safetensors")
    save_file({name: lost(value, "projected") for name, value in tensors.items()}, tmp_path / "b.safetensors")
    found = compare(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert found.decision == "related"
    assert ("projected" in told(found)) == (count == 3)
    assert found.direction == ("A first" if count == 3 else "undetermined")


@pytest.mark.parametrize(("theirs", "says"), [((0, 1), "0 is 1, 1 is 0"), ((0, 1, 2), "in another order in B")])
def test_layers_that_were_reordered_are_named_where_both_nets_have_as_many(theirs, says):
    (found,) = _moved(SimpleNamespace(layers=(0, 1)), SimpleNamespace(layers=theirs), [(0, 1), (1, 0)])
    assert found.name == "layers reordered"
    assert says in found.told
