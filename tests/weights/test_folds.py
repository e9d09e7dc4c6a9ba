"""Norms that one of two nets has folded: told as such, and what was tuned besides by how much it was tuned."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from whorl.checkpoints.opening import open_checkpoint
from whorl.nets.training import build
from whorl.symmetry.folding import fold
from whorl.weights.comparison import Comparison, compare
from whorl.weights.differences import differences_by_name
from whorl.weights.folds import Factors

READ_BY = {
    "input_layernorm": ("q_proj", "k_proj", "v_proj"),
    "post_attention_layernorm": ("gate_proj", "up_proj"),
    "model.norm": ("lm_head",),
}


def chance(seed):
    return torch.Generator().manual_seed(seed)


def told(found: Comparison) -> dict[str, str]:
    return {each.name: each.told for each in found.operations}


def write(folder, config, tensors):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    return folder


@pytest.fixture
def trained(saved, tmp_path):
    """A llama whose gains are no longer 1."""
    config = json.loads((saved("llama") / "config.json").read_text())
    tensors = load_file(saved("llama") / "model.safetensors")
    draw = chance(3)
    tensors = {
        name: (0.4 + torch.rand(value.shape, generator=draw)) if "norm" in name else value
        for name, value in tensors.items()
    }
    return config, tensors, write(tmp_path / "a", config, tensors)


def folded(tensors):
    made = dict(tensors)
    for norm, readers in READ_BY.items():
        for name in tensors:
            if norm in name:
                place = name.split(norm)[0]
                for other in tensors:
                    if other.startswith(place) and any(word in other for word in readers):
                        made[other] = tensors[other] * tensors[name]
                made[name] = torch.ones_like(tensors[name])
    return made


def test_gains_in_the_matrices_after_them_are_told(trained, tmp_path):
    config, tensors, path = trained
    copy = write(tmp_path / "b", config, folded(tensors))
    for found in (compare(path, copy, layers=0), compare(copy, path, layers=0)):
        assert found.decision == "related"
        assert set(told(found)) == {"folded norms"}
        assert told(found)["folded norms"].endswith("11 tensors; all else is equal")
        assert found.direction == "undetermined"


def test_what_was_tuned_besides_is_told_by_its_own_size(trained, tmp_path):
    config, tensors, path = trained
    draw = chance(4)
    tuned = {
        name: value + 0.05 * value.std() * torch.randn(value.shape, generator=draw) if value.ndim > 1 else value
        for name, value in folded(tensors).items()
    }
    seen = told(compare(path, write(tmp_path / "b", config, tuned), layers=0))
    assert "folded norms" in seen
    assert 4 < float(seen["tuned"].split("%")[0].split()[-1]) < 6


def test_gains_that_were_tuned_are_not_folded(saved, trained, tmp_path):
    """Gains of 1 in one net, and others in the other, with matrices that do not hold them but moved."""
    config, tensors, path = trained
    draw = chance(5)
    plain = {
        name: torch.ones_like(value)
        if "norm" in name
        else value + 0.2 * value.std() * torch.randn(value.shape, generator=draw)
        for name, value in tensors.items()
    }
    assert "folded norms" not in told(compare(path, write(tmp_path / "b", config, plain), layers=0))


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3])
def test_batch_norms_in_convolutions_are_told(tmp_path, epsilon):
    net = build("resnet8(width=8)", (1, 8, 8), 10, chance(0))
    draw = chance(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = epsilon
            held = module.state_dict()  # shares memory with the module
            for word in ("weight", "running_var", "running_mean"):
                held[word].copy_(0.2 + torch.rand(held[word].shape, generator=draw))
    made = deepcopy(net).eval()
    fold(made)
    paths = []
    for name, each in (("a", net), ("b", made)):
        paths.append(tmp_path / f"{name}.safetensors")
        save_file({key: value.contiguous() for key, value in each.state_dict().items()}, paths[-1])
    for found in (compare(*paths, layers=0), compare(*reversed(paths), layers=0)):
        assert found.decision == "related"
        assert "folded norms" in told(found)
        assert "tuned" not in told(found)


def test_gains_that_only_make_a_tensor_small_are_no_help():
    """Two strangers, of which the larger one has small gains."""
    draw = chance(0)
    ours, theirs = 10 * torch.randn(32, 16, generator=draw), torch.randn(32, 16, generator=draw)
    factors = Factors.__new__(Factors)
    factors.vectors = [{"norm": [0.1 + 0.01 * torch.rand(32, generator=draw)]}, {}]
    assert factors.applied(ours, theirs) is None
    assert factors.applied(ours, factors.vectors[0]["norm"][0][:, None] * ours) is not None


def test_vectors_count_by_name_only_where_no_gains_were_folded(tmp_path):
    """Gains that went into a matrix have not changed on their own; a bias that is equal is told in any case."""
    draw = chance(0)
    norm = {"norm.weight": 0.2 + torch.rand(12, generator=draw), "norm.running_var": torch.ones(12) - 1e-5}
    tensors = {"conv.weight": torch.randn(12, 3, 3, 3, generator=draw), "dense.weight": torch.randn(9, 12), **norm}
    tensors["dense.bias"] = torch.randn(9, generator=draw)
    plain = tensors | {"norm.weight": torch.ones(12), "dense.weight": 1.1 + tensors["dense.weight"]}
    made = plain | {"conv.weight": norm["norm.weight"][:, None, None, None] * tensors["conv.weight"]}
    save_file(tensors, tmp_path / "a.safetensors")
    found = {}
    for name, state in (("folded", made), ("plain", plain)):
        save_file(state, tmp_path / f"{name}.safetensors")
        nets = (open_checkpoint(tmp_path / f"{each}.safetensors") for each in ("a", name))
        found[name] = {each.name: each.folded for each in differences_by_name(*nets)}
    names = {"conv.weight", "dense.weight", "norm.running_var", "dense.bias"}
    assert found["folded"] == {name: name == "conv.weight" for name in names}
    assert found["plain"] == dict.fromkeys([*names, "norm.weight"], False)
