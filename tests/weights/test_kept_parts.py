"""Small tensors that no test tells by themselves, in nets that are made from one another and in those that are not."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from test_history import read, told, with_units, write

from whorl.checkpoints.opening import open_checkpoint
from whorl.weights.comparison import compare
from whorl.weights.differences import kept

LARGE = {
    f"layer.{place}.{name}.weight": shape for place in (0, 1) for name, shape in (("a", (64, 32)), ("b", (32, 64)))
}
SMALL = {f"layer.{place}.{name}.weight": (8, 8) for place in (0, 1) for name in "cdefgh"}


def drawn(shapes, seed):
    chance = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=chance) for name, shape in shapes.items()}


def little_moved(net):
    """Equal tensors among more that differ would be taken for constants."""
    return {
        name: value + 0.01 * noise
        for (name, value), noise in zip(net.items(), drawn(LARGE | SMALL, 9).values(), strict=True)
    }


@pytest.fixture
def compared(tmp_path):
    def compared(ours, theirs):
        for name, state in (("ours", ours), ("theirs", theirs)):
            save_file(state, tmp_path / f"{name}.safetensors")
        return compare(tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors")

    return compared


def test_a_tune_whose_small_tensors_show_nothing_is_no_part(compared):
    net, moved = drawn(LARGE | SMALL, 1), drawn(LARGE | SMALL, 2)
    tuned = {name: value + 1.1 * moved[name] for name, value in net.items()}
    found = compared(net, tuned)
    assert 2 * sum(each.related for each in found.layers) <= len(found.layers), "they show nothing"
    assert found.decision == "related"


def test_large_tensors_beside_small_ones_of_another_net_are_a_part(compared):
    net = drawn(LARGE | SMALL, 1)
    found = compared(net, little_moved(net) | drawn(SMALL, 2))
    assert found.decision == "part reused"


def test_what_strangers_have_in_common_keeps_no_tensor(compared):
    """Gains near 1, and columns that are large in all nets."""
    net, other = drawn(LARGE | SMALL, 1), drawn(SMALL, 2)
    for state in (net, other):
        for name in SMALL:
            state[name] = 0.1 * state[name] + torch.linspace(0, 5, 8) + 1
    assert compared(net, little_moved(net) | other).decision == "part reused"


def test_a_tensor_is_kept_where_the_other_net_has_it_in_the_same_shape(tmp_path):
    one = drawn({"w": (64, 32), "v": (64,), "u": (64, 32)}, 0)
    save_file(one, tmp_path / "a.safetensors")
    save_file({**one, "u": one["u"].T.contiguous()}, tmp_path / "b.safetensors")
    nets = [open_checkpoint(tmp_path / f"{name}.safetensors") for name in "ab"]
    assert [kept(*nets, name) for name in ("w", "v", "u", "t")] == [True, False, False, False]


def test_what_is_told_of_units_with_roles_is_told_by_these_whatever_stands_beside_them(saved, tmp_path):
    """Units of a net of a known family stand elsewhere; beside it is a tower of nobody's names, of another net."""
    config, tensors = read(saved("llama"))
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    again = with_units(tensors, lambda rows: rows[order])
    tower = {f"tower.{place}.weight": (40, 40) for place in range(3)}
    one = write(tmp_path / "a", config, tensors | drawn(tower, 1))
    two = write(tmp_path / "b", config, again | drawn(tower, 2))
    assert "reordered units" in told(compare(one, two))
