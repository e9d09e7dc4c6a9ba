"""What a tree prefers where distances alone would mislead, and what a kept relation depends on."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from whorl.weights.family.gathering import DEEPEST, find
from whorl.weights.family.planting import plant
from whorl.weights.family.relations import Kinship, pair_key, restore
from whorl.weights.history import Operation


def kin(distance, direction="undetermined", *operations, branch=None):
    return Kinship(-100.0, True, True, (-100.0,), distance, "weights", operations, direction, branch)


def edges(pairs):
    (family,) = plant(["a", "b", "c"], pairs, {})
    return {frozenset((edge.parent, edge.child)) for edge in family.edges}


def test_siblings_hang_from_their_parent_though_they_are_somewhat_nearer_to_each_other():
    near = {(0, 1): kin(0.15), (0, 2): kin(0.15), (1, 2): kin(0.13, branch=0.5)}
    assert edges(near) == {frozenset("ab"), frozenset("ac")}
    assert frozenset("bc") in edges(near | {(1, 2): kin(0.13)})  # nothing says that these are siblings
    assert frozenset("bc") in edges(near | {(1, 2): kin(0.1, branch=0.5)})  # much nearer


def test_what_was_made_from_a_net_hangs_from_it_and_not_from_its_pruned_copy():
    pruned = kin(0.09, "A first", Operation("pruned", "half of B is zero", "A first"))
    pairs = {(0, 1): pruned, (0, 2): kin(0.1), (1, 2): kin(0.098)}
    assert edges(pairs) == {frozenset("ab"), frozenset("ac")}
    tuned = kin(0.09, "A first", Operation("tuned", "B moved on", "A first"))
    assert frozenset("bc") in edges(pairs | {(0, 1): tuned})  # nothing was lost, and it is nearer
    assert frozenset("bc") in edges(pairs | {(1, 2): kin(0.05)})  # much nearer


def test_a_kept_relation_is_of_its_nets_layers_and_tokens():
    one, other = (SimpleNamespace(identity=name) for name in ("one", "other"))
    key = pair_key(one, other, layers=4, tokens=100)
    assert key == pair_key(one, other, layers=4, tokens=100)
    others = {
        pair_key(other, one, layers=4, tokens=100),
        pair_key(one, replace_identity(other), layers=4, tokens=100),
        pair_key(one, other, layers=5, tokens=100),
        pair_key(one, other, layers=4, tokens=101),
    }
    assert key not in others
    assert len(others) == 4


def replace_identity(member):
    return SimpleNamespace(identity=f"{member.identity} again")


@pytest.mark.parametrize("wrong", [{"log_p": math.nan}, {"log_p": 1.0}, {"distance": math.inf}, {"direction": "up"}])
def test_what_is_kept_and_no_relation_is_none(wrong):
    kept = kin(0.25, "A first", Operation("pruned", "half of B is zero", "A first")).document()
    with pytest.raises(ValueError, match="no relation"):
        restore(kept | wrong)


def test_folders_are_looked_into_to_a_depth(tmp_path):
    deep = [tmp_path.joinpath(*"abcdefghij"[:depth]) for depth in (DEEPEST, DEEPEST + 1)]
    for folder in deep:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"w": torch.ones(2, 2)}, folder / "net.safetensors")
    assert list(find(tmp_path)) == [deep[0] / "net.safetensors"]
