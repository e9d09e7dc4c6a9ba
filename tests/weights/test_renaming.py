"""Nets whose tensors have other names, or lie the other way round: what an export makes of them."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from families import make
from safetensors.torch import load_file, save_file
from torch import nn

from whorl.checkpoints.opening import open_checkpoint
from whorl.weights.comparison import compare
from whorl.weights.renaming import renamed

PREFIXES = ["model.", "module.", "0.auto_model.", "net.inner."]


def state(family="bert", seed=0):
    return {name: value.contiguous().clone() for name, value in make(family, seed).state_dict().items()}


def saved(path, tensors):
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path)
    return path


def exported(tensors, named=False):
    """Matrices but tables turned round and numbered, in an order that says nothing, as exporters do."""
    order = torch.randperm(len(tensors), generator=torch.Generator().manual_seed(1)).tolist()
    found = {}
    for place, (name, value) in zip(order, tensors.items(), strict=True):
        matrix = value.ndim == 2 and "embeddings" not in name
        plain = named and not matrix
        found[name if plain else f"val_{place}"] = value.T if matrix else value
    return found


def told(found):
    return {each.name for each in found.operations}


@pytest.mark.parametrize("named", [True, False])
def test_an_export_is_its_net(named, tmp_path):
    one = saved(tmp_path / "a.safetensors", state())
    two = saved(tmp_path / "b.safetensors", exported(state(), named))
    for pair in ((one, two), (two, one)):
        found = compare(*pair)
        assert (found.decision, told(found)) == ("related", {"identical"})
        assert found.architectures == ("bert", "bert")


@pytest.mark.parametrize("named", [True, False])
def test_what_happened_is_told_of_an_export_as_of_names(named, tmp_path):
    one = saved(tmp_path / "a.safetensors", state())
    chance = torch.Generator().manual_seed(3)
    tuned = {
        k: v + 0.1 * v.std() * torch.randn(v.shape, generator=chance) if v.ndim > 1 else v for k, v in state().items()
    }
    halves = {name: value.half() for name, value in state().items()}
    for tensors, word in ((tuned, "tuned"), (halves, "cast")):
        found = compare(one, saved(tmp_path / f"{word}.safetensors", exported(tensors, named)))
        assert found.decision == "related"
        assert word in told(found)


def test_strangers_under_other_names_are_not_paired(tmp_path):
    """Also those that were given one filter bank, which is no evidence."""
    bank = torch.randn(40, 40, generator=torch.Generator().manual_seed(9))
    one = saved(tmp_path / "a.safetensors", state() | {"bank": bank})
    two = saved(tmp_path / "b.safetensors", exported(state(seed=1)) | {"val_900": bank})
    pair = renamed(open_checkpoint(one), open_checkpoint(two))
    assert pair.second.entries.keys() == load_file(two).keys()
    assert pair.ways == 0
    assert compare(one, two).decision == "inconclusive"


def test_the_p_value_counts_the_pairings_that_could_have_been(tmp_path):
    """Three square matrices of one shape, and either way round: 3 + 1 partners or none for each, twice as many."""
    chance = torch.Generator().manual_seed(0)
    tensors = {f"layers.{place}.weight": torch.randn(24, 24, generator=chance) for place in range(3)}
    one = saved(tmp_path / "a.safetensors", tensors)
    two = saved(tmp_path / "b.safetensors", {f"val_{9 - place}": v.T for place, v in enumerate(tensors.values())})
    pair = renamed(open_checkpoint(one), open_checkpoint(two))
    assert pair.ways == pytest.approx(3 * math.log(2 * 4) + math.log(1000))
    assert all(torch.equal(pair.second.read(name), value) for name, value in tensors.items())
    assert all(torch.equal(pair.second.read(name, [3, 7]), value[[3, 7]]) for name, value in tensors.items())
    assert compare(one, two).log_p == pytest.approx(compare(one, one).log_p + pair.ways)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_an_equal_net_under_another_prefix_is_identical(family, prefix, tmp_path):
    one = saved(tmp_path / "a.safetensors", state(family))
    two = saved(tmp_path / "b.safetensors", {prefix + name: value for name, value in state(family).items()})
    assert told(compare(one, two)) == {"identical"}


def test_a_head_has_no_equal(tmp_path):
    one = saved(tmp_path / "a.safetensors", state())
    head = {f"bert.{name}": value for name, value in state().items()} | {"classifier.weight": torch.randn(3, 32)}
    found = compare(one, saved(tmp_path / "b.safetensors", head))
    assert [each.told for each in found.operations if each.name == "partly untouched"] == [
        "every tensor that was compared is equal; not among these: B's classifier.weight"
    ]


def test_a_tied_matrix_that_is_stored_twice_is_no_other(tmp_path):
    tied = {name: value for name, value in state("gpt2").items() if name != "lm_head.weight"}
    one = saved(tmp_path / "a.safetensors", tied)
    twice = tied | {"lm_head.weight": tied["transformer.wte.weight"]}
    assert "identical" in told(compare(one, saved(tmp_path / "b.safetensors", twice)))
    other = twice | {"lm_head.weight": tied["transformer.wte.weight"].flip(0)}
    assert "identical" not in told(compare(one, saved(tmp_path / "c.safetensors", other)))


def test_norms_that_an_export_folded_are_found_under_numbers(tmp_path):
    """By torch's own exporter, which numbers what it folds; in half precision too, where sums are rounded."""
    torch.manual_seed(0)
    norms = nn.BatchNorm2d(24), nn.BatchNorm2d(32)
    net = nn.Sequential(nn.Conv2d(3, 24, 3), norms[0], nn.ReLU(), nn.Conv2d(24, 32, 3), norms[1]).eval()
    with torch.no_grad():
        for norm in norms:
            norm.weight.add_(0.2 * torch.randn_like(norm.weight))
            norm.load_state_dict(norm.state_dict() | {"running_var": 0.5 + torch.rand(len(norm.weight))})
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    for kind in (torch.float32, torch.float16):
        one = saved(tmp_path / "a.safetensors", net.to(kind).state_dict())
        pictures = (torch.zeros(1, 3, 9, 9, dtype=kind),)
        torch.onnx.export(net, pictures, tmp_path / "b.onnx", dynamo=True, external_data=False, verbose=False)
        found = compare(one, tmp_path / "b.onnx")
        assert (found.decision, told(found)) == ("related", {"folded norms"})


def test_a_prefix_pairs_what_moved_too_far_to_be_known(tmp_path):
    """Nets without roles, of which one has a further matrix of the same shape, so that no order pairs them."""
    chance = torch.Generator().manual_seed(0)
    ours = {f"body.{place}.weight": torch.randn(24, 24, generator=chance) for place in range(4)}
    theirs = {f"model.{name}": value + 2 * torch.randn(24, 24, generator=chance) for name, value in ours.items()}
    theirs["head.weight"] = torch.randn(24, 24, generator=chance)
    one, two = saved(tmp_path / "a.safetensors", ours), saved(tmp_path / "b.safetensors", theirs)
    pair = renamed(open_checkpoint(one), open_checkpoint(two))
    assert pair.first.entries.keys() == theirs.keys() - {"head.weight"}
    assert pair.ways == 0


def test_vectors_follow_only_where_they_are_equal_up_to_rounding(tmp_path):
    tensors = state()
    moved = {
        name: value * 1.05 if name == "embeddings.LayerNorm.weight" else value.half() for name, value in tensors.items()
    }
    one = saved(tmp_path / "a.safetensors", tensors)
    pair = renamed(open_checkpoint(one), open_checkpoint(saved(tmp_path / "b.safetensors", exported(moved))))
    assert tensors.keys() - pair.second.entries.keys() == {"embeddings.LayerNorm.weight"}


def test_square_matrices_of_one_name_lie_the_way_round_that_fits_where_others_are_turned(tmp_path):
    """Shapes do not tell of squares, and each that is asked counts twice; no other does, nor a handful of numbers."""
    chance = torch.Generator().manual_seed(0)
    shapes = {"body.0.weight": (24, 24), "body.1.weight": (24, 40), "body.2.weight": (24, 24)}
    shapes |= {"body.3.weight": (24, 30), "few.weight": (3, 3)}
    tensors = {name: torch.randn(shape, generator=chance) for name, shape in shapes.items()}
    turned = {name: value.T if name in ("body.0.weight", "body.1.weight") else value for name, value in tensors.items()}
    one, two = saved(tmp_path / "a.safetensors", tensors), saved(tmp_path / "b.safetensors", turned)
    pair = renamed(open_checkpoint(one), open_checkpoint(two))
    assert all(torch.equal(pair.second.read(name), value) for name, value in tensors.items())
    assert pair.ways == pytest.approx(math.log(1000) + math.log(2) + 2 * math.log(2))
    assert told(compare(one, two)) == {"identical"}


def test_a_vector_of_zeros_follows_too_and_a_matrix_that_is_no_number_is_left_out(tmp_path):
    tensors = state() | {"encoder.layer.0.attention.output.dense.bias": torch.zeros(32)}
    broken = tensors | {"encoder.layer.1.output.dense.weight": torch.full((32, 64), torch.nan)}
    one = saved(tmp_path / "a.safetensors", tensors)
    for theirs in (tensors, broken):
        two = saved(tmp_path / "b.safetensors", exported(theirs))
        pair = renamed(open_checkpoint(one), open_checkpoint(two))
        lost = tensors.keys() - pair.second.entries.keys()
        assert lost == (set() if theirs is tensors else {"encoder.layer.1.output.dense.weight"})
        assert compare(one, two).decision == "related"
