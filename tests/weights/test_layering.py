"""The path of layers: against brute force on small matrices, and on nets whose layers were moved, dropped, doubled."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from families import transformers
from safetensors.torch import load_file, save_file

from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.roles import Weights
from whorl.weights.comparison import compare
from whorl.weights.layering import Expansion, LayerMap, align, evidence, expansion, monotone
from whorl.weights.pairing import basis, layer_similarity


def every_monotone(n, m):
    """Every set of pairs in which both sides ascend."""
    for size in range(min(n, m) + 1):
        for rows in itertools.combinations(range(n), size):
            for columns in itertools.combinations(range(m), size):
                yield list(zip(rows, columns, strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_the_monotone_path_is_the_best_of_all(seed):
    chance = torch.Generator().manual_seed(seed)
    n, m = (int(torch.randint(1, 6, (), generator=chance)) for _ in range(2))
    worth = torch.rand(n, m, generator=chance, dtype=torch.float64)
    worth *= worth > 0.4
    found = monotone(worth)
    best = max(sum(float(worth[pair]) for pair in pairs) for pairs in every_monotone(n, m))
    assert sum(float(worth[pair]) for pair in found) == pytest.approx(best)
    assert all(worth[pair] > 0 for pair in found)
    assert all(b > a and y > x for (a, x), (b, y) in itertools.pairwise(found))


def standing_out(n, m, pairs, value=0.6):
    """A matrix in which these pairs stand out, and others a little, by chance."""
    found = 0.03 * torch.rand(n, m, generator=torch.Generator().manual_seed(0))
    for row, column in pairs:
        found[row, column] = value
    return found


def test_a_path_with_gaps_copies_and_nothing_else():
    # A's 1 was dropped, its 2 doubled, and B's 3 is new.
    path = align(standing_out(4, 5, [(0, 0), (2, 1), (2, 2), (3, 4)]))
    assert path.origins == (0, 2, 2, None, 3)
    assert path.homes == (0, None, path.homes[2], 4)
    assert (path.lost, path.new, path.ordered) == ((1,), (3,), True)
    assert path.copies() == [("B", 2, (1, 2))]
    back = align(standing_out(4, 5, [(0, 0), (2, 1), (2, 2), (3, 4)]).T)
    assert back.homes == path.origins
    assert (back.lost, back.new) == ((3,), (1,))
    assert back.copies() == [("A", 2, (1, 2))]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_an_order_is_found_whatever_it_is(order):
    path = align(standing_out(4, 4, [(row, column) for column, row in enumerate(order)]))
    assert path.origins == order
    assert path.ordered == (order == (0, 1, 2, 3))
    assert not path.lost
    assert not path.new


def test_copies_that_trained_apart_are_not_taken_for_another_order():
    """Two near copies in both nets: crossing them gains next to nothing."""
    near = standing_out(3, 3, [(0, 0), (1, 1), (2, 2)])
    near[0, 1], near[1, 0] = 0.61, 0.61
    path = align(near)
    assert path.ordered
    assert path.partners == ((0, 0), (1, 1), (2, 2))


def test_what_is_unclear_is_not_told():
    weak = standing_out(3, 3, [(0, 0), (1, 1)], value=0.3)
    weak[2, 2] = 0.09
    path = align(weak)
    assert path.origins == (0, 1, None)
    assert (path.lost, path.new) == ((), ())
    nothing = align(standing_out(3, 2, []))
    assert (nothing.partners, nothing.lost, nothing.new) == ((), (), ())


def test_the_level_is_that_of_other_layers_and_of_chance():
    """Copies do not raise the level, and a net of one layer has chance to be held against."""
    similarity = torch.tensor([[0.9, 0.9, 0.3], [0.3, 0.3, 0.9], [0.3, 0.3, 0.3]])
    assert torch.allclose(
        evidence(similarity).clamp_min(0), torch.tensor([[0.6, 0.6, 0.0], [0.0, 0.0, 0.6]]), atol=1e-6
    )
    assert torch.allclose(evidence(torch.tensor([[0.9, 0.8], [0.3, 0.3]])), torch.tensor([[0.6, 0.5]]))
    assert torch.allclose(evidence(torch.tensor([[0.9], [0.3], [0.3]])), torch.tensor([[0.6], [0.0]]))


@pytest.mark.parametrize(
    ("copies", "other", "first"),
    [
        ((0.3, 0.4), 0.01, True),  # both left z
        ((0.3, 0.4), -0.02, True),
        ((0.3, 0.0), 0.0, False),  # z is one of the copies
        ((0.3, 0.3), 0.3, False),  # all three left an ancestor
        ((0.0, 0.0), 0.3, False),  # equal copies, at an unknown time
        ((0.0, 0.0), 0.0, True),
    ],
)
def test_who_came_first_where_a_layer_was_doubled(copies, other, first):
    assert Expansion(copies, other).first == first


LAYERS = 4


def axes_of(one, two, count=256):
    found = basis(one, two, count)
    assert found is not None
    return found


def make(folder, family, seed=0):
    """A net of four layers with fresh weights."""
    sizes = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
    config = {
        "llama": lambda: transformers.LlamaConfig(**sizes, intermediate_size=64, num_key_value_heads=2),
        "neox": lambda: transformers.GPTNeoXConfig(**sizes, intermediate_size=64),
        "gpt2": lambda: transformers.GPT2Config(vocab_size=128, n_embd=32, n_layer=LAYERS, n_head=4, n_positions=16),
    }[family]()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = transformers.AutoModelForCausalLM.from_config(config)
        net.save_pretrained(folder)
    return folder


def arranged(source, target, order, noise=0.1, silent=()):
    """The net whose layers are those of ``order``, each with noise of its own; ``silent`` ones write nothing."""
    target.mkdir()
    config = json.loads((source / "config.json").read_text())
    config |= {"n_layer" if "n_layer" in config else "num_hidden_layers": len(order)}
    (target / "config.json").write_text(json.dumps(config))
    chance = torch.Generator().manual_seed(len(order))
    tensors = {}
    for name, value in load_file(source / "model.safetensors").items():
        parts = name.split(".")
        at = next((place for place, word in enumerate(parts) if word.isdigit()), None)
        places = [None] if at is None else [place for place, layer in enumerate(order) if layer == int(parts[at])]
        for place in places:
            new = name if at is None or place is None else ".".join([*parts[:at], str(place), *parts[at + 1 :]])
            moved = value + (noise * value.std() * torch.randn(value.shape, generator=chance) if value.ndim > 1 else 0)
            writes = any(word in name for word in ("o_proj", "down_proj", "attention.dense", "dense_4h_to_h"))
            tensors[new] = moved * 0 if place in silent and writes else moved
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    return target


def told(found):
    return {each.name: each.told for each in found.operations}


@pytest.mark.parametrize("family", ["llama", "neox", "gpt2"])
@pytest.mark.parametrize(
    ("order", "operation", "words"),
    [
        ((0, 2, 3), "layers dropped", "A's 1 not in B"),
        ((2,), "layers dropped", "A's 0, 1 and 3 not in B"),
        ((0, 1, 1, 2, 3), "layers duplicated", "A's 1 is B's 1 and 2"),
        ((0, 1, 2, 1, 2, 3), "layers duplicated", "A's 1 is B's 1 and 3, A's 2 is B's 2 and 4"),
        ((1, 0, 2, 3), "layers reordered", "A's layers in B's order: 1, 0, 2, 3"),
        ((3, 1, 0), "layers reordered", "A's layers in B's order: 3, 1, 0"),
    ],
)
def test_what_became_of_layers_is_told(tmp_path, family, order, operation, words):
    source = make(tmp_path / "a", family)
    found = compare(source, arranged(source, tmp_path / "b", order), layers=0)
    assert found.decision == "related"
    assert told(found)[operation] == words


def test_the_other_way_round_and_what_is_new(tmp_path):
    source, stranger = make(tmp_path / "a", "llama"), make(tmp_path / "stranger", "llama", 1)
    dropped = arranged(source, tmp_path / "b", (0, 2, 3))
    found = compare(dropped, source, layers=0)
    assert told(found)["layers inserted"] == "B's 1 with no origin in A"
    assert "layers dropped" not in told(found)
    theirs = load_file(stranger / "model.safetensors")
    mixed = load_file(source / "model.safetensors")
    mixed |= {name: value for name, value in theirs.items() if "layers.2." in name}
    save_file(mixed, dropped / "model.safetensors", {"format": "pt"})
    (dropped / "config.json").write_text((source / "config.json").read_text())
    replaced = told(compare(source, dropped, layers=0))
    assert replaced["layers dropped"] == "A's 2 not in B"
    assert replaced["layers inserted"] == "B's 2 with no origin in A"


def test_who_came_first_is_told_by_copies(tmp_path):
    source = make(tmp_path / "a", "neox")
    silent = arranged(source, tmp_path / "b", (0, 0, 1, 2, 3), silent=(1,))
    found = compare(source, silent, layers=0)
    assert (found.direction, found.relation) == ("A first", "descent")
    assert compare(silent, source, layers=0).direction == "B first"
    # The original among the copies is the one that writes, so that what changed is measured on it.
    downs = [each for each in found.changes if each.name.startswith("layer 0 down")]
    assert downs[0].relative == pytest.approx(0.1, abs=0.03)


def test_a_copy_that_was_dropped_again_does_not_say_who_came_first(tmp_path):
    source = make(tmp_path / "a", "llama")
    doubled = arranged(source, tmp_path / "b", (0, 0, 1, 2, 3))
    back = arranged(doubled, tmp_path / "c", (0, 2, 3, 4), noise=0.05)
    places = Weights(open_checkpoint(doubled)), Weights(open_checkpoint(back))
    seen = expansion(places[0], (0, 1), places[1], 0)
    assert seen is not None
    assert not seen.first
    firsts = [each.first for each in compare(doubled, back, layers=0).operations if each.name == "layers duplicated"]
    assert firsts == ["undetermined"]


def test_similarity_is_blind_to_order_signs_and_rotation(tmp_path):
    """What tests of these symmetries need, to stay exact after layers were chosen by it."""
    source = make(tmp_path / "a", "llama")
    tensors = load_file(source / "model.safetensors")
    chance = torch.Generator().manual_seed(3)
    turn = torch.linalg.qr(torch.randn(32, 32, generator=chance)).Q
    other = {}
    for name, value in tensors.items():
        if any(word in name for word in ("embed", "lm_head", "q_proj", "k_proj", "v_proj", "gate", "up_proj")):
            other[name] = value @ turn
        elif any(word in name for word in ("o_proj", "down_proj")):
            other[name] = turn.T @ value
        else:
            other[name] = value
    for layer in range(LAYERS):
        order = torch.randperm(64, generator=chance)
        signs = torch.randint(0, 2, (64,), generator=chance) * 2.0 - 1
        for name in ("gate_proj", "up_proj"):
            key = f"model.layers.{layer}.mlp.{name}.weight"
            other[key] = other[key][order] * (signs[:, None] if name == "up_proj" else 1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.json").write_text((source / "config.json").read_text())
    save_file({name: value.contiguous() for name, value in other.items()}, tmp_path / "b" / "model.safetensors")
    one, two = Weights(open_checkpoint(source)), Weights(open_checkpoint(tmp_path / "b"))
    plain, turned = (layer_similarity(one, net, axes_of(one, net)) for net in (one, two))
    assert plain.shape == (LAYERS + 1, LAYERS)
    assert torch.allclose(plain[:-1], turned[:-1], atol=1e-3)
    assert plain[:-1].diagonal() == pytest.approx(torch.ones(LAYERS), abs=1e-4)


def test_a_map_nobody_needs_is_not_computed(tmp_path):
    source = make(tmp_path / "a", "llama")
    net = Weights(open_checkpoint(source))
    places = LayerMap(net, net, axes_of(net, net, 64))
    assert places.pairs([0, 2]) == places.settled({0: 0, 2: 2}) == {0: 0, 2: 2}
    assert not places.looked_at
    assert places.moved([1, 3]) == {1: 1, 3: 3}
    assert places.looked_at


@pytest.mark.parametrize("reader", ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"])
def test_a_copy_that_moved_in_one_reader_alone_says_nothing_of_who_came_first(reader, tmp_path):
    """The other of two copies is the other net's layer still, which may have been taken out of them."""
    source = make(tmp_path / "a", "llama")
    doubled = arranged(source, tmp_path / "b", (0, 0, 1, 2, 3), noise=0.0)
    tensors, one, firsts = load_file(doubled / "model.safetensors"), Weights(open_checkpoint(source)), []
    for factor in (1.0, 1.1):
        some = {name: factor * value for name, value in tensors.items() if "layers.1." in name and reader in name}
        save_file(tensors | some, doubled / "model.safetensors", {"format": "pt"})
        seen = expansion(Weights(open_checkpoint(doubled)), (0, 1), one, 0)
        firsts.append(seen is not None and seen.first)
    assert firsts == [True, False]
