"""The tree of nets whose making is known, and trees grown from relations written down by hand."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from test_sketches import perceptron, pruned, turned

from whorl.checkpoints.opening import open_checkpoint
from whorl.errors import UsageError
from whorl.report.tree import tree_page
from whorl.weights.family.cells import Memory
from whorl.weights.family.merges import Merge
from whorl.weights.family.planting import Root, plant
from whorl.weights.family.relations import Kinship, restore
from whorl.weights.family.tree import document, lineage
from whorl.weights.history import Operation
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe
from whorl.zoo.steps import LANGUAGE

TUNED = Operation("tuned", "numbers moved")
BASE = "pretrain(llama, steps=120)"
STRANGER = "pretrain(llama, steps=120, seed=1)"
MADE = {
    "base": BASE,
    "tune": f"{BASE} -> tune(steps=60)",
    "int4": f"{BASE} -> tune(steps=60) -> quantise(bits=4)",
    "lora": f"{BASE} -> lora(steps=60)",
    "other": f"{BASE} -> tune(corpus(seed=2), steps=60)",
    "pruned": f"{BASE} -> tune(corpus(seed=2), steps=60) -> prune_weights(1/2)",
    "merged": f'{BASE} -> tune(steps=60) -> merge("base -> tune(corpus(seed=2), steps=60)")',
    "permuted": f"{BASE} -> tune(steps=60) -> permute_neurons -> permute_residual",
    "stranger": STRANGER,
    "stranger-tune": f"{STRANGER} -> tune(steps=60)",
}
TRUE = {
    *[("base", "tune"), ("base", "lora"), ("base", "other"), ("tune", "int4"), ("other", "pruned")],
    *[("tune", "merged"), ("other", "merged"), ("tune", "permuted"), ("stranger", "stranger-tune")],
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="module")
def folder(cache, tmp_path_factory):
    place = tmp_path_factory.mktemp("nets")
    recipes = [parse_recipe(text, kind=LANGUAGE) for text in MADE.values()]
    for name, made in zip(MADE, Zoo(cache).build(recipes, workers=1), strict=True):
        shutil.copytree(made, place / name)
    shutil.copytree(place / "tune", place / "tune-again")
    (place / "broken.safetensors").write_bytes((place / "base" / "model.safetensors").read_bytes()[:500])
    (place / "notes.txt").write_text("no weights")
    return place


@pytest.fixture(scope="module")
def found(folder):
    return lineage(folder)


def edges(found):
    return [edge for family in found.families for edge in family.edges]


def test_the_true_tree_is_recovered_and_no_told_direction_is_wrong(found):
    assert {frozenset((edge.parent, edge.child)) for edge in edges(found)} == set(map(frozenset, TRUE))
    assert {(edge.parent, edge.child) for edge in edges(found) if edge.directed} <= TRUE


def test_quantised_pruned_and_merged_nets_are_children_for_sure(found):
    told = {(edge.parent, edge.child) for edge in edges(found) if edge.directed}
    assert {("tune", "int4"), ("other", "pruned"), ("tune", "merged"), ("other", "merged")} <= told


def test_a_reordered_copy_is_near_and_its_direction_is_not_told(found):
    (edge,) = [edge for edge in edges(found) if "permuted" in (edge.parent, edge.child)]
    assert edge.how == "units"
    assert edge.distance < 0.01
    assert not edge.directed


def test_independent_nets_are_another_family(found):
    assert [len(family.members) for family in found.families] == [8, 2]
    assert set(found.families[1].members) == {"stranger", "stranger-tune"}
    assert found.pairs == 45


def test_a_merge_has_both_parents_with_their_shares(found):
    shares = {edge.parent: edge.share for edge in edges(found) if edge.child == "merged"}
    assert shares == pytest.approx({"tune": 0.5, "other": 0.5}, abs=1e-3)
    assert all(edge.share is None for edge in edges(found) if edge.child != "merged")


@pytest.mark.parametrize(
    ("method", "later", "off", "unexplained"),
    [("ties", "", 0.25, 0.35), ("dare", "", 0.06, 0.55), ("dare", " -> tune(corpus(seed=5), steps=30)", 0.1, 0.8)],
)
def test_thinned_and_tuned_merges_have_their_parents(cache, folder, tmp_path, method, later, off, unexplained):
    for name in ("base", "tune", "other", "lora"):
        (tmp_path / name).symlink_to(folder / name)
    merged = f'merge("base -> tune(corpus(seed=2), steps=60)", method={method})'
    recipe = parse_recipe(f"{BASE} -> tune(steps=60) -> {merged}{later}", kind=LANGUAGE)
    (tmp_path / "merged").symlink_to(Zoo(cache).build([recipe], workers=1)[0])
    steps = [edge for edge in edges(lineage(tmp_path)) if edge.child == "merged"]
    assert {edge.parent: edge.share for edge in steps} == pytest.approx({"tune": 0.5, "other": 0.5}, abs=off)
    assert all(0.1 < edge.unexplained < unexplained and edge.ancestor == "base" for edge in steps)


def test_copies_are_put_together_and_what_cannot_be_read_is_named(found):
    assert {member.name: member.copies for member in found.members if member.copies} == {"tune": ("tune-again",)}
    assert list(found.skipped) == ["broken.safetensors"]
    assert "safetensors" in found.skipped["broken.safetensors"]
    assert document(found)["checkpoints"]["tune"]["copies"] == ["tune-again"]


def test_an_adapter_hangs_below_the_net_that_it_names(folder, tmp_path):
    for name in ("base", "tune", "stranger"):
        (tmp_path / name).symlink_to(folder / name)
    module = "model.layers.0.self_attn.q_proj"
    height, width = open_checkpoint(folder / "base").entries[f"{module}.weight"].shape
    factors = {
        f"base_model.model.{module}.lora_A.weight": 0.1 * torch.randn(2, width),
        f"base_model.model.{module}.lora_B.weight": 0.1 * torch.randn(height, 2),
    }
    bases = {"named": "somebody/base", "lost": "somebody/else", "silent": None, "again": f"{'deep/' * 30}lone"}
    for name, base in bases.items():
        (tmp_path / name).mkdir()
        save_file(factors, tmp_path / name / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": base}
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "lone.safetensors").symlink_to(folder / "base" / "model.safetensors")
    found = lineage(tmp_path)
    (edge,) = (edge for edge in edges(found) if edge.child == "again")
    assert (edge.parent, edge.directed) == ("base", True)
    assert edge.evidence[0] == "adapter: again is an adapter of base by the word of its configuration"
    assert document(found)["checkpoints"]["again"]["adapter_of"] == "base"
    assert {member.name: member.copies for member in found.members}["again"] == ("named",)
    assert found.skipped.keys() == {"lost", "silent"}
    assert "'somebody/else', and no net" in found.skipped["lost"]
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "base").symlink_to(folder / "stranger-tune")
    assert "2 different nets" in lineage(tmp_path).skipped["named"]


def test_an_interrupted_run_goes_on_and_a_finished_one_compares_nothing(folder, tmp_path):
    for name in ("base", "tune", "int4"):
        shutil.copytree(folder / name, tmp_path / name)

    class Interrupted(Memory):
        def put(self, key, document):
            if sum(held.startswith("pair") for held in self.held) == 2:
                raise KeyboardInterrupt
            super().put(key, document)

    cells = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        lineage(tmp_path, cells=cells)
    kept = Memory()
    kept.held = dict(cells.held)
    assert lineage(tmp_path, cells=kept).compared == 1
    again = lineage(tmp_path, cells=kept)
    assert again.compared == 0
    assert again.families == lineage(tmp_path).families


def test_a_kept_relation_is_the_relation():
    relation = kin("A first", 0.25, Operation("pruned", "half of B is zero", "A first"))
    assert restore(relation.document()) == relation


def test_folders_without_nets_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        lineage(tmp_path / "absent")
    with pytest.raises(UsageError, match="no checkpoint"):
        lineage(tmp_path)
    with pytest.raises(UsageError, match="alpha"):
        lineage(tmp_path, alpha=2)


def kin(direction="undetermined", distance=0.1, *operations):
    return Kinship(-100.0, True, True, (-100.0,), distance, "weights", operations, direction)


def drawn(family):
    return {(edge.parent, edge.child, edge.directed) for edge in family.edges}


def test_a_chain_without_evidence_has_no_told_direction():
    pairs = {(0, 1): kin(distance=0.1), (1, 2): kin(distance=0.1), (0, 2): kin(distance=0.14)}
    (family,) = plant(["a", "b", "c"], pairs, {})
    assert drawn(family) == {("b", "a", False), ("b", "c", False)}
    assert family.roots[0].name is None
    assert family.roots[0].possible == ("a", "b", "c")


def test_one_told_edge_orders_those_behind_it():
    pruned = kin("B first", 0.1, Operation("pruned", "half of A is zero", "B first"))
    pairs = {(0, 1): pruned, (1, 2): kin(distance=0.1), (0, 2): kin(distance=0.14)}
    (family,) = plant(["a", "b", "c"], pairs, {})
    assert ("b", "a", True) in drawn(family)
    assert family.roots[0].possible == ("b", "c")
    assert next(edge for edge in family.edges if edge.child == "a").evidence == ("pruned: half of a is zero",)


def test_evidence_weighs_more_than_distance():
    first = Operation("pruned", "half of B is zero", "A first")
    pairs = {(0, 1): kin("A first", 0.3, first), (0, 2): kin("A first", 0.3, first), (1, 2): kin("A first", 0.1, first)}
    (family,) = plant(["a", "b", "c"], pairs, {})
    assert drawn(family) == {("a", "b", True), ("b", "c", True)}
    assert family.roots[0].possible == ("a",)


def test_evidence_that_contradicts_itself_is_called_so():
    first = Operation("pruned", "half of B is zero", "A first")
    pairs = {(0, 1): kin("A first", 0.1, first), (2, 1): kin("A first", 0.1, first)}
    (family,) = plant(["a", "b", "c"], pairs, {})
    assert family.roots[0].name is None
    assert family.roots[0].possible == ("a", "c")
    assert {(edge.parent, edge.child) for edge in family.edges if edge.directed} <= {("a", "b"), ("c", "b")}


def test_evidence_that_leads_in_a_circle_directs_nothing():
    first = Operation("pruned", "half of B is zero", "A first")
    pairs = {(0, 1): kin("A first", 0.1, first), (1, 2): kin("A first", 0.1, first), (2, 0): kin("A first", 0.1, first)}
    (family,) = plant(["a", "b", "c"], pairs, {})
    assert family.roots[0].name is None
    assert not any(edge.directed for edge in family.edges)


def test_a_grandparent_is_no_parent_where_the_parent_lies_between():
    first = Operation("pruned", "some of B is zero", "A first")
    pairs = {
        (0, 1): kin("A first", 0.1, first),
        (1, 2): kin("A first", 0.1, first),
        (0, 2): kin("A first", 0.14, first),
    }
    (family,) = plant(["base", "child", "grandchild"], pairs, {})
    assert drawn(family) == {("base", "child", True), ("child", "grandchild", True)}
    assert family.roots[0].name == "base"


def test_a_root_is_named_only_where_every_other_net_is_told_to_come_later():
    told = kin("A first", 0.1, Operation("pruned", "some of B is zero", "A first"))
    pairs = {(0, 1): told, (0, 2): kin(distance=0.1), (1, 2): kin(distance=0.15)}
    (family,) = plant(["a", "b", "c"], pairs, {})
    assert family.roots[0].name is None
    assert family.roots[0].possible == ("a", "c")
    (family,) = plant(["a", "b", "c"], pairs | {(0, 2): told}, {})
    assert family.roots[0].name == "a"


def test_a_root_in_several_files_is_told_up_to_these():
    pruned = kin("A first", 0.1, Operation("pruned", "some of B is zero", "A first"))
    same = kin("undetermined", 0.0, Operation("identical", "every tensor is equal"))
    moved = kin("undetermined", 5e-4, Operation("reordered units", "hidden units stand elsewhere"))
    names = ["a", "b", "c", "small"]
    pairs = {(0, 1): same, (1, 2): moved, (0, 2): moved, **{(place, 3): pruned for place in range(3)}}
    (family,) = plant(names, pairs, {})
    assert family.roots == (Root(None, ("a", "b", "c"), "evidence of direction leaves no other", True),)
    (family,) = plant(names[:3], {pair: each for pair, each in pairs.items() if 3 not in pair}, {})
    assert (family.roots[0].copies, family.roots[0].why) == (True, "that all here are one net leaves no other")
    for other in (replace(moved, distance=0.02), kin(distance=5e-4), kin("undetermined", 5e-4, TUNED)):
        (family,) = plant(names, pairs | {(1, 2): other, (0, 2): other}, {})
        assert (family.roots[0].copies, family.roots[0].possible) == (False, ("a", "b", "c"))


def test_a_net_in_several_files_is_told_to_be_the_root(tmp_path):
    """Its own file, an export that turned and numbered its matrices, and one that turned them under their names."""
    net = perceptron(3)
    numbered = {f"val_{9 - place}": value.T for place, value in enumerate(net.values())}
    made = {"net": net, "numbered": numbered, "turned": turned(net), "pruned": pruned(net)}
    for name, tensors in made.items():
        whole = {key: value.contiguous() for key, value in tensors.items()}
        save_file(whole, tmp_path / f"{name}.safetensors")
    found = lineage(tmp_path)
    (root,) = found.families[0].roots
    assert (root.copies, root.name) == (True, None)
    assert root.possible == ("net.safetensors", "numbered.safetensors", "turned.safetensors")
    assert document(found)["families"][0]["roots"][0]["copies"] is True
    assert "one net, of which any file may be the first: evidence of direction leaves no other (net.s" in tree_page(
        found
    )


def test_a_reordered_net_and_its_original_are_the_root_of_what_was_made_of_them(folder, tmp_path):
    for name in ("tune", "permuted", "int4"):
        shutil.copytree(folder / name, tmp_path / name)
    (root,) = lineage(tmp_path).families[0].roots
    assert (root.copies, root.possible) == (True, ("permuted", "tune"))


def test_an_estimated_direction_says_so():
    (family,) = plant(["a", "b"], {(0, 1): replace(kin("A first"), branch=0.0)}, {})
    assert family.edges[0].directed
    assert family.edges[0].estimated
    assert "estimated" in family.roots[0].why


def test_a_merge_joins_two_trees_and_holds_what_is_made_from_it():
    pairs = {(0, 2): kin(distance=0.7), (1, 2): kin(distance=0.7), (2, 3): kin(distance=0.05)}
    pairs |= {(0, 3): kin(distance=0.7), (1, 3): kin(distance=0.7)}
    merge = Merge({0: 0.5, 1: 0.5}, {0: 0.01, 1: 0.01}, 0.0)
    (family,) = plant(["a", "b", "merged", "tuned"], pairs, {2: merge})
    assert drawn(family) == {("a", "merged", True), ("b", "merged", True), ("merged", "tuned", False)}
    assert {root.name for root in family.roots} == {"a", "b"}


def test_merges_of_each_other_make_no_circle():
    pairs = {(0, 1): kin(), (1, 2): kin(), (0, 2): kin()}
    merges = {0: Merge({1: 0.5, 2: 0.5}, {1: 0, 2: 0}, 0.0), 1: Merge({0: 0.5, 2: 0.5}, {0: 0, 2: 0}, 0.0)}
    (family,) = plant(["a", "b", "c"], pairs, merges)
    steps = {(edge.parent, edge.child) for edge in family.edges}
    assert not ({("a", "b"), ("b", "a")} <= steps)


def test_relatedness_needs_most_layers():
    part = replace(kin(), places=(-100.0, 0.0, 0.0, 0.0))
    assert part.refuted(0.01)
    assert not part.related(0.01)
    assert kin().related(0.01)


def test_siblings_without_their_parent_are_joined_without_direction():
    pairs = {(0, 1): replace(kin(), branch=0.5)}
    (family,) = plant(["a", "b"], pairs, {})
    assert not family.edges[0].directed
    assert family.edges[0].evidence == ("common ancestor: an estimated 50% of the way from a to b",)


def test_an_estimate_gives_way_to_what_an_operation_says():
    lost = kin("A first", 0.1, Operation("pruned", "half of B is zero", "A first"))
    pairs = {(0, 1): lost, (1, 2): replace(kin("A first", 0.1), branch=0.0), (0, 2): kin("B first", 0.5)}
    (family,) = plant(["a", "b", "c"], pairs, {})
    assert drawn(family) == {("a", "b", True), ("b", "c", False)}
    assert kin("B first").estimated
    assert not lost.estimated
