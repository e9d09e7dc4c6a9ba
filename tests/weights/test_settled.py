"""What is found in a layer or a file whatever global seed is set, and what is found of which of the two nets."""

from __future__ import annotations

import pytest
import torch
from families import make
from safetensors.torch import save_file
from test_history import moved, read, told, write
from test_layering import LAYERS, arranged, axes_of
from test_layering import make as layers_of

from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.roles import NONE, Key, Weights
from whorl.weights.comparison import compare
from whorl.weights.findings import _Nearest, _seen, about
from whorl.weights.layering import LayerMap
from whorl.weights.pairing import layer_similarity
from whorl.weights.units import Units


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_layers_are_paired_alike_whatever_the_global_seed(tmp_path):
    """Three layers of B are one layer of A: the choice among them is drawn, and always the same."""
    source = layers_of(tmp_path / "a", "llama")
    tripled = arranged(source, tmp_path / "b", (0, 0, 0, 1, 2, 3), noise=0.0)
    one, two = Weights(open_checkpoint(source)), Weights(open_checkpoint(tripled))
    axes, found, alike = axes_of(one, two, 64), set(), []
    for seed in range(6):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            found.add(LayerMap(one, two, axes).moved([0])[0])
            alike.append(layer_similarity(one, two, axes))
    assert len(found) == 1
    assert found <= {0, 1, 2}
    assert all(torch.equal(each, alike[0]) for each in alike)


def test_of_copies_in_b_alone_the_one_that_writes_is_chosen(tmp_path):
    """Of copies in A each has its own partner, and layers that nobody held are not paired."""
    source = layers_of(tmp_path / "a", "llama")
    longer = arranged(source, tmp_path / "b", (0, 1, 2, 3, 3))
    one, two = Weights(open_checkpoint(source)), Weights(open_checkpoint(longer))
    back = LayerMap(two, one, axes_of(two, one, 64))
    pairs = {layer: min(layer, LAYERS - 1) for layer in range(LAYERS + 1)}
    assert [each.side for each in back.copied] == ["A"]
    assert back.settled(pairs) == pairs
    places = LayerMap(one, two, axes_of(one, two, 64))
    assert [each.layer for each in places.copied] == [3]
    assert places.settled({0: 0}) == {0: 0}
    for silent, writer in ((3, 4), (4, 3)):
        hushed = arranged(source, tmp_path / f"{silent}", (0, 1, 2, 3, 3), silent=(silent,))
        other = Weights(open_checkpoint(hushed))
        places = LayerMap(one, other, axes_of(one, other, 64))
        assert [each.places for each in places.copied] == [(3, 4)]
        assert places.settled({3: 3}) == {3: writer}


def test_what_is_tested_of_a_gated_net_and_what_chance_gives(saved, tmp_path):
    config, tensors = read(saved("llama"))
    found = compare(saved("llama"), write(tmp_path / "b", config, moved(tensors)))
    chances = {each.test: {seen.chance for seen in each.observations} for each in found.findings}
    assert {name: chances[name] for name in chances if name != "two matchings"} == {
        "gated signs": {0.5},
        "value signs": {0.5},
        "unit places": {1 / 64},
        "axis places": {1 / 32},
    }


def test_likeness_of_units_decides_nothing(saved):
    found = {each.test: each for each in compare(saved("gpt2"), saved("gpt2")).findings}
    assert found["matched units"].log_p < -50
    assert (found["matched units"].decides, found["matched units"].exact) == (False, False)
    assert about("matched units").decides is about("matched units").exact is False
    assert all(each.decides for name, each in found.items() if name != "matched units")


def test_among_units_that_are_equally_near_all_are_drawn_alike_over_blocks():
    """Forty equal units in blocks of 4, 12 and 24: each as often, but for chance (four standard deviations)."""
    near, row = _Nearest(drawn(1, 8).repeat(2000, 1)), drawn(1, 8)
    for size in (4, 12, 24):
        near.add(row.repeat(size, 1))
    ends = torch.tensor([4, 16, 40])
    counts = torch.bucketize(near.place, ends, right=True).bincount(minlength=3)
    for count, share in zip(counts.tolist(), (0.1, 0.3, 0.6), strict=True):
        assert count == pytest.approx(2000 * share, abs=4 * (2000 * share * (1 - share)) ** 0.5)


@pytest.mark.parametrize("along", [False, True])
def test_units_are_seen_along_the_axes_that_are_given(along, saved):
    net, axes = Weights(open_checkpoint(saved("llama"))), drawn(32, 20) if along else None
    found = Units.of(net, 0, NONE, axes, gated=True)
    folded = torch.cat(list(net.blocks("gate", 0, NONE, range(64))))
    for part, whole in ((found.read, folded), (found.written, net.read("down", 0).T)):
        assert torch.allclose(part, whole if axes is None else whole @ axes, atol=1e-5)


@pytest.mark.parametrize("copies", [15, 16])
def test_units_were_added_where_half_of_the_rest_is_idle(copies, saved, tmp_path):
    """Of 32 more units so many read what another reads, and the others were drawn."""
    config, tensors = read(saved("llama"))
    extra = {name: drawn(32 - copies, 32, seed=place) * 0.02 for place, name in enumerate(tensors)}

    def widened(name, value):
        rows = value.T if "down_proj" in name else value
        rows = torch.cat([rows, rows[:copies], extra[name]]) if ".mlp." in name else rows
        return rows.T if "down_proj" in name else rows

    wide = {name: widened(name, value) for name, value in tensors.items()}
    found = told(compare(saved("llama"), write(tmp_path / "b", config | {"intermediate_size": 96}, wide), layers=0))
    assert ("units added" in found) == (copies == 16)


def test_a_net_without_tokens_says_nothing_of_an_unembedding(saved, tmp_path):
    config, tensors = read(saved("llama"))
    inner = {name: value for name, value in tensors.items() if "embed_tokens" not in name and "lm_head" not in name}
    for found in (compare(saved("llama"), write(tmp_path / "b", config, moved(inner))),):
        assert found.decision == "related"
        assert not {"unembedding", "embedding untied"} & told(found).keys()


def test_what_is_not_finite_in_one_net_is_left_out_of_that_net_alone(tmp_path):
    tensors = {name: value.contiguous().clone() for name, value in make("llama").state_dict().items()}
    name = "model.layers.0.mlp.up_proj.weight"
    broken = tensors | {name: tensors[name].where(tensors[name] != tensors[name].amax(), torch.nan)}
    for file, held in (("a", tensors), ("b", broken)):
        save_file(held, tmp_path / f"{file}.safetensors")
    paths, total = (tmp_path / "a.safetensors", tmp_path / "b.safetensors"), sum(map(torch.numel, tensors.values()))
    for pair, numbers in ((paths, (total, total - 64 * 32)), (paths[::-1], (total - 64 * 32, total))):
        assert tuple(each.numbers for each in compare(*pair).coverage) == numbers


def test_rows_that_are_seen_in_blocks_stand_where_they_did(saved, monkeypatch):
    net, shown = Weights(open_checkpoint(saved("llama"))), []
    whole = torch.cat(list(net.blocks("gate", 0, NONE, range(64))))
    monkeypatch.setattr(Weights, "blocks", lambda *_: iter(whole.split(10)))
    seen = _seen(net, Key("gate", 0), None, range(64), lambda block, done: shown.append((len(block), done)))
    assert torch.equal(seen, whole)
    assert shown == [(len(part), place) for part, place in zip(whole.split(10), range(0, 64, 10), strict=True)]
