"""Which nets of a folder are compared, what a failure costs, and merges of several families."""

from __future__ import annotations

import functools

import pytest
import torch
from safetensors.torch import save_file
from test_sketches import noisy, perceptron
from test_tree_choices import edges, kin

import whorl
from whorl.checkpoints.opening import open_checkpoint
from whorl.errors import UsageError
from whorl.weights.family import pairs
from whorl.weights.family.mixtures import mixture
from whorl.weights.family.pairs import NEAREST, chosen_for
from whorl.weights.family.sketches import SIZE, TENSORS, Sketch, _signs, sketch
from whorl.weights.family.tree import document, lineage
from whorl.weights.history import Operation


def write(path, net):
    path.parent.mkdir(exist_ok=True)
    save_file({name: value.contiguous() for name, value in net.items()}, path)
    return path


def test_of_few_nets_all_are_compared_also_those_that_share_nothing_with_the_suspect(tmp_path):
    one = sketch(open_checkpoint(write(tmp_path / "a.safetensors", perceptron(0))))
    others = [one] * (NEAREST - 1) + [Sketch.empty()]
    assert chosen_for(one, others) == list(range(NEAREST))
    assert chosen_for(one, [*others, one]) == [*range(NEAREST - 1), NEAREST]


def test_a_sketch_of_nothing_is_kept_as_any_other_and_one_of_too_much_is_none():
    again = Sketch.restored(Sketch.empty().document())
    assert (again.groups, again.values.shape) == ((), (0, SIZE))
    whole = Sketch(("units 4 4",) * 4 * TENSORS, torch.zeros(4 * TENSORS, SIZE).numpy())
    assert len(Sketch.restored(whole.document()).groups) == 4 * TENSORS
    more = Sketch(("units 4 4",) * (4 * TENSORS + 1), torch.zeros(4 * TENSORS + 1, SIZE).numpy())
    with pytest.raises(ValueError, match="no sketch"):
        Sketch.restored(more.document())


def test_signs_are_those_of_a_fair_coin():
    signs = _signs(4096)
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert abs(signs.sum()) < 4 * 64


def test_what_has_no_sketch_is_named_beside_pairs_that_failed(tmp_path, monkeypatch):
    folder = tmp_path / "nets"
    for seed in range(3):
        write(folder / f"{seed}.safetensors", perceptron(seed))

    @functools.wraps(sketch)
    def failing(net):
        if net.path.name == "1.safetensors":
            raise RuntimeError("no luck")
        return sketch(net)

    monkeypatch.setattr(pairs, "sketch", failing)
    found = whorl.parents(write(tmp_path / "suspect.safetensors", noisy(perceptron(0))), folder)
    assert found.failed == lineage(folder).failed == {"1.safetensors": "RuntimeError: no luck"}
    assert found.candidates[0].name == "0.safetensors"


def test_where_no_merges_could_be_looked_for_it_is_said_why(tmp_path):
    """A file is cut off after its pairs were compared, which are told all the same."""
    for seed, share in enumerate((0.0, 0.3, 0.3)):
        write(tmp_path / "nets" / f"{seed}.safetensors", noisy(perceptron(0), share, seed=seed))

    def cut(stage, *_):
        if stage == "merges":
            (tmp_path / "nets" / "0.safetensors").write_bytes(b"")

    found = lineage(tmp_path / "nets", progress=cut)
    assert [len(family.members) for family in found.families] == [3]
    (why,) = (found.failed[name] for name in ["merges among 0.safetensors and its relatives"])
    assert "cut off" in why


@pytest.mark.parametrize("count", [2, 3])
def test_three_nets_that_are_likely_to_come_before_the_suspect_are_held_against_each_other(count, tmp_path):
    """One of them may be the ancestor of the others, and the suspect a merge of these; of two there is none."""
    for seed in range(count):
        write(tmp_path / "nets" / f"{seed}.safetensors", noisy(perceptron(0), 0.02, seed=seed))
    write(tmp_path / "nets" / "stranger.safetensors", perceptron(7))
    found = whorl.parents(write(tmp_path / "suspect.safetensors", noisy(perceptron(0), 0.5)), tmp_path / "nets")
    assert [each.decision for each in found.candidates] == ["related"] * count + ["inconclusive"]
    assert {each.first for each in found.candidates if each.decision == "inconclusive"} == {"undetermined"}
    assert found.compared == count + 1 + (3 if count == 3 else 0)


def test_a_distance_by_units_or_between_other_plans_is_not_held_against_one_in_place():
    place = {(0, 1): kin(0.09), (0, 2): kin(0.1)}
    assert frozenset("bc") in edges(place | {(1, 2): kin(0.08)})
    cut = kin(0.08, "undetermined", Operation("depth changed", "3 layers in A, 4 in B"))
    by_units = type(cut)(**{**vars(kin(0.08)), "how": "units"})
    for other in (cut, by_units):
        assert edges(place | {(1, 2): other}) == {frozenset("ab"), frozenset("ac")}


def test_merges_of_two_families_are_told_of_both(tmp_path):
    for at, (one, two) in enumerate(((0, 1), (2, 3))):
        nets = perceptron(one), perceptron(two)
        for name, net in zip("ab", nets, strict=True):
            write(tmp_path / "nets" / f"{name}{at}.safetensors", net)
        merged = {name: (nets[0][name] + nets[1][name]) / 2 for name in nets[0]}
        write(tmp_path / "nets" / f"merged{at}.safetensors", merged)
    found = lineage(tmp_path / "nets")
    assert {(edge.parent[:2], edge.child) for family in found.families for edge in family.edges} == {
        (f"{name}{at}", f"merged{at}.safetensors") for name in "ab" for at in (0, 1)
    }
    assert document(found)["architectures"] == {"unknown": 6}


def test_a_file_without_matrices_is_named(tmp_path):
    paths = [write(tmp_path / f"{name}.safetensors", {"bias": torch.ones(9)}) for name in "abc"]
    with pytest.raises(UsageError, match=r"a\.safetensors holds no matrix"):
        mixture(paths[0], paths[1:])
