"""The verdict on real checkpoints: copies and strangers of every family, what happened, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from families import FAMILIES
from safetensors.torch import load_file, save_file

from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.roles import NONE, Key, Weights
from whorl.errors import UsageError
from whorl.weights.comparison import BY_MOVEMENT, LayerEvidence, _decide, compare, document
from whorl.weights.coverage import UNREAD, coverage
from whorl.weights.differences import _label, _threads
from whorl.weights.parting import STUDIED

TRANSFORMERS = sorted(FAMILIES)


def changed(folder, target, change):
    """A copy of a checkpoint with every matrix changed."""
    target.mkdir()
    (target / "config.json").write_text((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    save_file({name: change(name, value).contiguous() for name, value in tensors.items()}, target / "model.safetensors")
    return target


def noise(scale, seed=0):
    chance = torch.Generator().manual_seed(seed)
    return lambda name, value: value + scale * value.std() * torch.randn(value.shape, generator=chance)


def compared(one, two, **settings):
    return compare(open_checkpoint(one), open_checkpoint(two), **settings)


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_a_noisy_copy_is_related_and_another_seed_is_not(saved, tmp_path, family):
    copy = changed(saved(family), tmp_path / "copy", noise(0.3))
    found = compared(saved(family), copy)
    assert found.decision == "related"
    assert found.exact
    assert found.log_p < math.log(1e-6)
    assert all(place.related for place in found.layers)
    other = compared(saved(family), saved(family, 1))
    assert other.decision == "inconclusive"
    assert other.log_p > math.log(1e-3)
    assert not other.operations


def test_other_families_are_compared_where_they_can_be(saved, tmp_path):
    for other in ("mistral", "gpt2", "vit"):
        assert compared(saved("llama"), saved(other, 1)).decision == "inconclusive"
    save_file({"x": torch.ones(4, 4)}, tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="nothing can be compared"):
        compared(saved("llama"), tmp_path / "x.safetensors")


def test_one_layer_taken_over_is_a_part(saved, tmp_path):
    theirs = load_file(saved("llama", 1) / "model.safetensors")
    mixed = changed(
        saved("llama"), tmp_path / "mixed", lambda name, value: value if "layers.1." in name else theirs[name]
    )
    found = compared(saved("llama"), mixed)
    assert found.decision == "part reused"
    assert [(place.layer, place.related) for place in found.layers] == [(-1, False), (0, False), (1, True)]


def elsewhere(name):
    return name.replace("layers.0.", "layers.x.").replace("layers.1.", "layers.0.").replace("layers.x.", "layers.1.")


def test_layers_that_moved_are_found_where_they_are(saved, tmp_path):
    held = load_file(saved("llama") / "model.safetensors")
    swapped = changed(saved("llama"), tmp_path / "swapped", lambda name, value: held[elsewhere(name)])
    found = compared(saved("llama"), swapped)
    assert found.decision == "related"
    assert [(place.layer, place.paired) for place in found.layers] == [(-1, -1), (0, 1), (1, 0)]
    assert "layers reordered" in [each.name for each in found.operations]


@pytest.mark.parametrize(("share", "seen"), [(1.001, True), (0.999, False)])
def test_a_layer_that_moved_is_held_to_alpha_over_the_number_of_places(saved, tmp_path, share, seen):
    """As one in its place is. There are three, and the weaker of two that moved is just at its level, or just not."""
    held, noisy = load_file(saved("llama") / "model.safetensors"), noise(4.0)
    swapped = changed(
        saved("llama"),
        tmp_path / "swapped",
        lambda name, value: noisy(name, held[elsewhere(name)]) if "layers" in name else value,
    )
    embedding, *layers = compared(saved("llama"), swapped).layers
    weaker = max(layers, key=lambda each: each.log_p)
    assert weaker.related
    assert embedding.log_p < weaker.log_p - 9  # so that the whole is related at the levels below
    found = compared(saved("llama"), swapped, alpha=3 * share * math.exp(weaker.log_p))
    assert found.layers[1 + weaker.layer].related == seen


def test_a_layer_that_is_related_where_it_stands_is_looked_for_nowhere_else(saved, tmp_path):
    """B has A's layer 0 with much noise in its place, and as it was in that of layer 1, of which nothing is left."""
    held, noisy = load_file(saved("llama") / "model.safetensors"), noise(1.0)
    doubled = changed(
        saved("llama"),
        tmp_path / "doubled",
        lambda name, value: noisy(name, value) if "layers.0." in name else held[name.replace("layers.1.", "layers.0.")],
    )
    found = compared(saved("llama"), doubled)
    assert [(place.layer, place.paired, place.related) for place in found.layers[:2]] == [(-1, -1, True), (0, 0, True)]
    assert found.layers[2].layer == 1
    assert not found.layers[2].related


def test_coverage_says_what_was_read_and_what_was_not(saved):
    """Of each net by itself: the layer that was not read, by its names; all else was."""
    for one in compared(saved("llama"), saved("llama", 1), layers=1).coverage:
        sizes = {name: value.numel() for name, value in load_file(saved("llama") / "model.safetensors").items()}
        unread = sum(size for name, size in sizes.items() if "layers.1." in name) / sum(sizes.values())
        assert one.read == pytest.approx(1 - unread)
        assert one.left_out["layers that were not read"] == pytest.approx(unread)
        assert one.tested + sum(one.left_out.values()) == pytest.approx(1)


def test_an_embedding_alone_is_a_part(saved, tmp_path):
    theirs = load_file(saved("llama", 1) / "model.safetensors")
    mixed = changed(
        saved("llama"), tmp_path / "mixed", lambda name, value: value if "embed_tokens" in name else theirs[name]
    )
    found = compared(saved("llama"), mixed)
    assert found.decision == "part reused"
    assert [place.layer for place in found.layers if place.related] == [-1]


@pytest.mark.parametrize(
    ("change", "operation", "direction"),
    [
        (lambda name, value: value, "identical", "undetermined"),
        (lambda name, value: value.bfloat16(), "cast", "A first"),
        (noise(0.3), "tuned", "undetermined"),  # siblings tuned little and much look the same
        (lambda name, value: value * (value.abs() > value.abs().median()), "pruned", "A first"),
        (
            lambda name, value: torch.round(value / value.abs().max() * 7) / 7 * value.abs().max(),
            "quantised",
            "A first",
        ),
    ],
)
def test_what_happened_is_told(saved, tmp_path, change, operation, direction):
    found = compared(saved("llama"), changed(saved("llama"), tmp_path / "b", change))
    assert found.decision == "related"
    assert operation in [each.name for each in found.operations]
    assert found.direction == direction
    back = compared(tmp_path / "b", saved("llama"))
    assert back.direction == {"A first": "B first"}.get(direction, direction)


def test_two_that_left_one_net_have_a_common_ancestor(saved, tmp_path):
    """Shared initialisation is related, and neither made from the other; a net and its ancestor are."""
    one, two = (changed(saved("llama"), tmp_path / name, noise(0.5, seed)) for seed, name in enumerate(("one", "two")))
    found = compared(one, two)
    assert (found.decision, found.relation, found.direction) == ("related", "common ancestor", "undetermined")
    assert found.branch == pytest.approx(0.5, abs=0.05)
    down = compared(saved("llama"), two)
    assert (down.relation, down.direction) == ("undetermined", "undetermined")
    assert down.branch == pytest.approx(0, abs=0.05)


def test_a_low_rank_update_is_told_with_its_rank(saved, tmp_path):
    chance = torch.Generator().manual_seed(0)

    def adapt(name, value):
        if "proj" not in name:
            return value
        rows, columns = value.shape
        return value + 0.01 * torch.randn(rows, 3, generator=chance) @ torch.randn(3, columns, generator=chance)

    found = compared(saved("llama"), changed(saved("llama"), tmp_path / "b", adapt))
    told = {each.name: each.told for each in found.operations}
    assert "rank 3 to 3" in told["low-rank update"]
    assert "partly untouched" in told


def plain(path, seed, base=None, noise=0.0):
    """A convolutional net of no known family, or a noisy copy of one."""
    chance = torch.Generator().manual_seed(seed)
    shapes = {"first.weight": (24, 3, 3, 3), "second.weight": (32, 24, 3, 3), "dense.weight": (40, 32 * 4)}
    shapes |= {"classes.weight": (10, 40), "first.bias": (24,)}
    tensors = {name: torch.randn(shape, generator=chance) for name, shape in shapes.items()}
    if base is not None:
        tensors = {name: value + noise * tensors[name] for name, value in load_file(base).items()}
    save_file(tensors, path)
    return path


def test_nets_of_no_known_family_are_compared_by_name_and_shape(tmp_path):
    a, stranger = (plain(tmp_path / f"{seed}.safetensors", seed) for seed in (0, 1))
    copy = plain(tmp_path / "copy.safetensors", 2, base=a, noise=0.5)
    found = compared(a, copy)
    assert found.architectures == ("unknown", "unknown")
    assert found.decision == "related"
    assert found.log_p < math.log(1e-6)
    assert [place.name for place in found.layers] == ["dense.weight", "first.weight", "second.weight"]
    assert any("no known architecture" in each for each in found.caveats)
    other = compared(a, stranger)
    assert other.decision == "inconclusive"
    assert not other.operations


def test_equal_matrices_without_an_equal_vector_are_named_and_prove_nothing(tmp_path):
    paths, chance = [tmp_path / f"{side}.safetensors" for side in "ab"], torch.Generator().manual_seed(5)
    taken, shapes = torch.randn(24, 16, generator=chance), {"b.weight": (24, 24), "c.weight": (16, 24), "a.bias": (24,)}
    for path in paths:
        save_file({"a.weight": taken, **{n: torch.randn(s, generator=chance) for n, s in shapes.items()}}, path)
    found = compare(*paths)
    assert (found.decision, found.operations) == ("inconclusive", ())
    assert [each for each in found.caveats if "a.weight" in each and "were copied" in each]
    bias = {**load_file(paths[1]), "a.bias": load_file(paths[0])["a.bias"]}
    save_file(bias, paths[1])
    again = compare(*paths)
    assert again.decision == "part reused"
    assert not [each for each in again.caveats if "were copied" in each]


def test_the_document_is_json_and_keeps_what_a_float_cannot(saved):
    found = compared(saved("llama"), saved("llama"))
    told = json.loads(json.dumps(document(found)))
    assert told["grade"] == "A"
    for unsure in (replace(found, exact=False), replace(found, tested=False)):
        assert document(unsure)["grade"] is None
    for key in ("decision", "null_hypothesis", "tests", "layers", "operations", "direction", "bytes_read", "seconds"):
        assert key in told
    assert all(
        {"name", "null_hypothesis", "assumption", "evasion", "exact", "layers"} <= each.keys() for each in told["tests"]
    )
    assert told["log10_p"] < -50
    places = [each for test in told["tests"] for each in test["layers"]]
    for layers in (places, told["layers"]):
        assert {(each["layer"], each["paired"]) for each in layers if each["layer"] >= 0} == {(0, 0), (1, 1)}


def test_fewer_layers_read_less(saved):
    whole, some = (compared(saved("llama"), saved("llama", 1), layers=count) for count in (0, 1))
    assert some.bytes_read < whole.bytes_read
    assert any("1 of 2 layers" in each for each in some.caveats)
    assert len(some.layers) == 2
    with pytest.raises(UsageError, match="alpha"):
        compared(saved("llama"), saved("llama"), alpha=0)


def test_evidence_that_no_place_shows_alone_tells_no_part():
    """Half a dozen places at p = .02 each are no six related layers, and no proof that layers are unrelated."""
    weak = [LayerEvidence(layer, layer, math.log(0.02), False) for layer in range(6)]
    assert _decide(math.log(0.005), 0.01, weak) == "related"
    assert _decide(math.log(0.02), 0.01, weak) == "inconclusive"
    one = [replace(weak[0], related=True), *weak[1:]]
    assert _decide(math.log(0.005), 0.01, one) == "part reused"
    most = [replace(each, related=each.layer < 4) for each in weak]
    assert _decide(math.log(0.005), 0.01, most) == "related"


def test_how_often_movement_misleads_is_told_with_its_interval():
    low, high = STUDIED.interval
    assert f"{low:.0%} to {high:.0%}" in BY_MOVEMENT
    assert low < STUDIED.wrong / STUDIED.told < high


def test_the_first_expert_is_named_too():
    assert [_label(Key("gate", 3, expert)) for expert in (0, 1, NONE)] == [
        *("layer 3 gate.0", "layer 3 gate.1"),
        "layer 3 gate",
    ]


def test_a_net_without_tensors_of_roles_is_read_whole(tmp_path):
    value = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    save_file({"w": value}, tmp_path / "a.safetensors")
    net = Weights(open_checkpoint(tmp_path / "a.safetensors"))
    assert coverage(net, [], ["w"], {}).read == 1.0
    assert coverage(net, [], [], {"w": UNREAD}).read == 0.0


@pytest.mark.parametrize("cores", [1, 3, 64])
def test_threads_share_whole_cores(cores, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    with _threads():
        assert type(asked[0]) is int
        assert 1 <= asked[0] <= cores
    assert asked[-1] == cores
