"""A suspect against a folder: ranks, both parents of a merge, strangers, and what is kept between runs."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file
from test_sketches import merged, noisy, perceptron, pruned

import whorl
from whorl.engine.store import Store
from whorl.errors import InvalidFile, UsageError
from whorl.weights.family.cells import Memory, held, keep
from whorl.weights.family.gathering import member_of
from whorl.weights.family.pairs import NEAREST
from whorl.weights.family.parents import document
from whorl.weights.family.relations import Kinship, pair_key

STRANGERS = 11


def write(net, path):
    path.parent.mkdir(exist_ok=True)
    save_file({name: value.contiguous() for name, value in net.items()}, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("folder")
    for seed in range(STRANGERS):
        write(perceptron(seed), place / f"{seed}.safetensors")
    write(perceptron(501), place / "501.safetensors")
    (place / "broken.safetensors").write_bytes(b"no")
    return place


def test_the_parent_is_first_and_the_error_rate_is_shared_by_the_whole_folder(folder, tmp_path):
    found = whorl.parents(write(noisy(perceptron(3)), tmp_path / "suspect.safetensors"), folder)
    assert (found.decision, found.candidates[0].name) == ("related", "3.safetensors")
    assert [each.decision for each in found.candidates[1:]] == ["inconclusive"] * (NEAREST - 1)
    alone = whorl.compare(folder / "3.safetensors", tmp_path / "suspect.safetensors")
    assert found.candidates[0].log_p == pytest.approx(alone.log_p + torch.tensor(STRANGERS + 1.0).log().item())
    assert found.compared == NEAREST
    assert list(found.skipped) == ["broken.safetensors"]


def test_both_parents_of_a_merge_are_named_with_their_shares(folder, tmp_path):
    found = whorl.parents(write(merged(perceptron(5)), tmp_path / "merge.safetensors"), folder)
    told = {each.name: each.share for each in found.candidates if each.share is not None}
    assert told == pytest.approx({"5.safetensors": 0.5, "501.safetensors": 0.5}, abs=0.01)
    assert {each.first for each in found.candidates[:2]} == {"candidate"}


def test_who_came_first_is_told_from_the_suspects_side(folder, tmp_path):
    found = whorl.parents(write(pruned(perceptron(3)), tmp_path / "pruned.safetensors"), folder)
    assert found.candidates[0].first == "candidate"
    (tmp_path / "other").mkdir()
    write(pruned(perceptron(3)), tmp_path / "other" / "pruned.safetensors")
    back = whorl.parents(folder / "3.safetensors", tmp_path / "other")
    assert back.candidates[0].first == "suspect"
    assert not back.candidates[0].estimated


def test_strangers_and_parts_are_called_what_they_are(folder, tmp_path):
    stranger = whorl.parents(write(perceptron(900), tmp_path / "stranger.safetensors"), folder)
    assert stranger.decision == "inconclusive"
    assert stranger.tested
    first = {"layers.0.weight": perceptron(3)["layers.0.weight"]}
    reused = whorl.parents(write(noisy(perceptron(901) | first, 0.1), tmp_path / "part.safetensors"), folder)
    assert (reused.decision, reused.candidates[0].name) == ("part reused", "3.safetensors")
    untested = whorl.parents(write({"w": torch.randn(3, 3)}, tmp_path / "small.safetensors"), folder)
    assert (untested.decision, untested.tested, document(untested)["candidates"]) == ("inconclusive", False, [])


def test_the_suspect_itself_is_no_candidate_and_a_copy_is(folder):
    found = whorl.parents(folder / "3.safetensors", folder)
    assert "3.safetensors" not in {each.name for each in found.candidates}
    assert len(found.members) == STRANGERS
    assert (found.inside, document(found)["suspect"]["inside"]) == ("3.safetensors", "3.safetensors")


def test_a_copy_of_the_suspect_has_its_own_name_however_long(folder, tmp_path):
    place = tmp_path / "folder"
    place.mkdir()
    for name, seed in (("s", 3), ("a-copy-of-s", 3), ("stranger", 4)):
        write(perceptron(seed), place / f"{name}.safetensors")
    found = whorl.parents(place / "s.safetensors", place)
    assert [each.name for each in found.candidates] == ["a-copy-of-s.safetensors", "stranger.safetensors"]
    outside = whorl.parents(write(perceptron(3), tmp_path / "s.safetensors"), place)
    assert (outside.inside, document(outside)["suspect"]["inside"]) == ("", None)
    assert outside.candidates[0].name == "s.safetensors"


def test_mistakes_are_named(folder, tmp_path):
    suspect = write(perceptron(1), tmp_path / "suspect.safetensors")
    for wrong, words in (
        ((tmp_path / "absent", folder), "no such file"),
        ((suspect, tmp_path / "absent"), "no such file"),
        ((folder / "broken.safetensors", folder), "safetensors"),
    ):
        with pytest.raises((UsageError, InvalidFile), match=words):
            whorl.parents(*wrong)
    (tmp_path / "alone").mkdir()
    write(perceptron(1), tmp_path / "alone" / "net.safetensors")
    with pytest.raises(UsageError, match="nothing but the suspect"):
        whorl.parents(tmp_path / "alone" / "net.safetensors", tmp_path / "alone")
    with pytest.raises(UsageError, match="alpha"):
        whorl.parents(suspect, folder, alpha=0)


def poisoned(cell):
    """A relation, or a sketch, of other numbers than those that were kept."""
    other = {"log_p": -500.0, "places": [-500.0], "groups": []}
    document = cell["document"]
    return {**cell, "document": {**document, **{key: value for key, value in other.items() if key in document}}}


def test_damaged_cells_are_made_anew(folder, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for seed in range(3, 6):
        (few / f"{seed}.safetensors").symlink_to(folder / f"{seed}.safetensors")
    suspect = write(noisy(perceptron(3)), tmp_path / "suspect.safetensors")
    cells = Memory()
    first = whorl.parents(suspect, few, cells=cells)
    assert whorl.parents(suspect, few, cells=cells).compared == 0
    damages = poisoned, lambda _: {}, lambda _: "x", lambda cell: {**cell, "document": 3}
    for kind in ("pair", "sketch"):
        keys = [key for key in cells.held if key.startswith(kind)]
        assert len(keys) >= 3
        for key, damage in zip(keys, damages, strict=False):
            cells.held[key] = damage(cells.held[key])
    again = whorl.parents(suspect, few, cells=cells)
    assert again.candidates == first.candidates
    assert again.compared == 3
    assert whorl.parents(suspect, few, cells=cells).compared == 0


def test_a_truncated_cell_of_a_store_costs_that_cell_alone(tmp_path):
    store = Store(tmp_path / "cells.sqlite")
    for number in range(5):
        keep(store, f"key-{number}", {"number": number})
    with store._database:
        store._database.execute("UPDATE cells SET document = substr(document, 1, 20) WHERE key = 'key-2'")
        store._database.execute("UPDATE cells SET document = x'00ff' WHERE key = 'key-3'")
    found = held(store, [f"key-{number}" for number in range(5)], lambda document: document["number"])
    store.close()
    assert found == {"key-0": 0, "key-1": 1, "key-4": 4}


@pytest.mark.parametrize(("log_p", "first"), [(math.log(0.002), "candidate"), (math.log(0.008), "undetermined")])
def test_who_came_first_is_told_of_no_net_that_is_not_told_to_be_related(log_p, first, tmp_path):
    """Of two nets each is held to half of alpha, and a direction may be known of a pair at all of it."""
    paths = [write(perceptron(seed), tmp_path / "nets" / f"{seed}.safetensors") for seed in (1, 2)]
    suspect = write(perceptron(3), tmp_path / "suspect.safetensors")
    near, ours = member_of(paths[0], paths[0].name), member_of(suspect, suspect.name)
    one, two = sorted((near, ours), key=lambda member: member.identity)
    way = "A first" if one is near else "B first"
    cells, kin = Memory(), Kinship(log_p, True, True, (log_p,), 0.1, "weights", (), way)
    keep(cells, pair_key(one, two, layers=4, tokens=256), kin.document())
    found = whorl.parents(suspect, tmp_path / "nets", cells=cells)
    (told,) = (each for each in found.candidates if each.name == near.name)
    assert (told.decision, told.first) == ("related" if first == "candidate" else "inconclusive", first)
