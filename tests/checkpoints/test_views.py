"""Files that hold several nets are taken apart by prefixes, and nets with repeated parts are left whole."""

from __future__ import annotations

import pytest
import torch
from families import make
from safetensors.torch import save_file
from torch import nn

from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.views import View, nets, without
from whorl.errors import InvalidFile


def opened(path, *states):
    """A file with these tensors, each dictionary after a prefix."""
    tensors = {f"{prefix}{name}": value.clone() for prefix, state in states for name, value in state.items()}
    save_file(tensors, path / "x.safetensors")
    return open_checkpoint(path / "x.safetensors")


def state(family="llama", seed=0):
    return {name: value.contiguous() for name, value in make(family, seed).state_dict().items()}


@pytest.mark.parametrize("prefixes", [("", "adam.m.", "adam.v."), ("model.", "ema."), ("policy.a.", "policy.b.")])
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_every_net_of_a_file_is_one(tmp_path, family, prefixes):
    states = {prefix: state(family, seed) for seed, prefix in enumerate(prefixes)}
    found = {net.prefix: net for net in nets(opened(tmp_path, *states.items()))}
    assert found.keys() == states.keys()
    for prefix, net in found.items():
        assert net.entries.keys() == states[prefix].keys()
        assert all(torch.equal(net.read(name), value.float()) for name, value in states[prefix].items())
        name = next(name for name, value in states[prefix].items() if value.ndim == 2)
        assert torch.equal(net.read(name, [0, 3]), states[prefix][name][[0, 3]])


def test_an_average_may_lack_some_tensors_and_others_belong_to_the_first(tmp_path):
    whole = state()
    few = {name: value for name, value in whole.items() if name != "model.norm.weight"}
    found = nets(opened(tmp_path, ("", whole), ("ema.", few), ("", {"steps": torch.ones(1)})))
    assert [net.prefix for net in found] == ["", "ema."]
    assert found[0].entries.keys() == {*whole, "steps"}


def test_equal_decoders_beside_larger_encoders_that_differ_are_parts_of_one_net(tmp_path):
    decoder = {f"rnn.{place}.weight": torch.randn(32, 32) for place in range(3)}
    encoders = [{"encoder.weight": torch.randn(size, 64)} for size in (40, 72)]
    held = [("one.", encoders[0]), ("two.", encoders[1]), ("one.decoder.", decoder), ("two.decoder.", decoder)]
    checkpoint = opened(tmp_path, *held)
    assert nets(checkpoint) == [checkpoint]
    small = {"encoder.weight": torch.randn(8, 64)}, {"encoder.weight": torch.randn(9, 64)}
    held[:2] = [("one.", small[0]), ("two.", small[1])]
    assert len(nets(opened(tmp_path, *held))) == 2


class Siamese(nn.Module):
    """Two layers of one shape in each place: repeated parts, but no repeated net."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
        self.blocks = nn.ModuleList(nn.Sequential(*(nn.Linear(8, 8) for _ in range(4))) for _ in range(3))


@pytest.mark.parametrize("family", ["llama", "mixtral", "gpt2", "bert"])
def test_layers_and_experts_are_no_nets(tmp_path, family):
    checkpoint = opened(tmp_path, ("", state(family)))
    assert nets(checkpoint) == [checkpoint]


def test_repeated_layers_are_no_nets(tmp_path):
    checkpoint = opened(tmp_path, ("", Siamese().state_dict()))
    assert nets(checkpoint) == [checkpoint]


def test_a_thousand_prefixes_are_no_nets(tmp_path):
    tensors = {f"n{place}.{name}": torch.ones(2, 2) for place in range(1000) for name in "abc"}
    save_file(tensors, tmp_path / "x.safetensors")
    checkpoint = open_checkpoint(tmp_path / "x.safetensors")
    assert nets(checkpoint) == [checkpoint]


def test_some_tensors_may_be_left_out(tmp_path):
    checkpoint = opened(tmp_path, ("", {"a": torch.ones(2), "b": torch.zeros(3)}))
    left = without(checkpoint, "a")
    assert isinstance(left, View)
    assert list(left.entries) == ["b"]
    assert torch.equal(left.read("b"), torch.zeros(3))
    assert left.bytes_read == checkpoint.bytes_read == 12
    with pytest.raises(InvalidFile, match="holds no tensor that can be used: all hold NaN or an infinity"):
        without(left, "b")


@pytest.mark.parametrize("wrap", ["module.{}", "module._orig_mod.{}", "_fsdp_wrapped_module.{}"])
def test_words_of_wrappers_make_no_difference(tmp_path, wrap):
    inner = {name.replace("mlp", "_checkpoint_wrapped_module.mlp"): value for name, value in state().items()}
    checkpoint = opened(tmp_path, ("", {wrap.format(name): value for name, value in inner.items()}))
    assert checkpoint.entries.keys() == state().keys()
    assert torch.equal(checkpoint.read("model.norm.weight"), state()["model.norm.weight"])


def test_names_that_would_be_two_stay(tmp_path):
    checkpoint = opened(tmp_path, ("", {"a.w": torch.ones(2), "a._orig_mod.w": torch.zeros(2)}))
    assert list(checkpoint.entries) == ["a._orig_mod.w", "a.w"]


@pytest.mark.parametrize("name", ["x.pth.tar", "x.ckpt"])
@pytest.mark.parametrize("key", ["state_dict", "model", "module", "params_ema"])
def test_what_training_loops_save(tmp_path, name, key):
    torch.save({key: {"module.w": torch.ones(2, 3)}, "epoch": 7, "best": torch.ones(1)}, tmp_path / name)
    for path in (tmp_path, tmp_path / name):
        assert torch.equal(open_checkpoint(path).read("w"), torch.ones(2, 3))
