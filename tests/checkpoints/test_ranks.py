"""A net that was cut over devices, put together again."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from whorl.checkpoints.opening import open_checkpoint
from whorl.errors import UsageError
from whorl.weights.comparison import compare

WIDTH, WORDS = 32, 60
COLUMNS = ("attention.wo", "feed_forward.w2", "tok_embeddings")


def net(hidden, seed=0):
    """As Meta names Llama."""
    chance = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(shape, generator=chance)

    state = {
        "tok_embeddings.weight": drawn(WORDS, WIDTH),
        "output.weight": drawn(WORDS, WIDTH),
        "norm.weight": drawn(WIDTH),
    }
    for layer in ("layers.0", "layers.1"):
        state |= {f"{layer}.attention.{name}.weight": drawn(WIDTH, WIDTH) for name in ("wq", "wk", "wv", "wo")}
        state |= {f"{layer}.feed_forward.{name}.weight": drawn(hidden, WIDTH) for name in ("w1", "w3")}
        state[f"{layer}.feed_forward.w2.weight"] = drawn(WIDTH, hidden)
        state |= {f"{layer}.{name}_norm.weight": drawn(WIDTH) for name in ("attention", "ffn")}
    return state


def cut(state, count, folder, name="consolidated.{:02}.pth"):
    folder.mkdir()
    for rank in range(count):
        part = {}
        for key, value in state.items():
            axis = 1 if any(each in key for each in COLUMNS) else 0
            part[key] = value if value.ndim == 1 else value.chunk(count, axis)[rank].clone()
        torch.save(part, folder / name.format(rank))
    return folder


@pytest.mark.parametrize(("hidden", "count"), [(80, 2), (128, 4), (64, 2)])  # 128 / 4 and 64 / 2 are the width itself
def test_parts_of_every_tensor_are_one_net(hidden, count, tmp_path):
    state = net(hidden)
    save_file(state, tmp_path / "whole.safetensors")
    found = open_checkpoint(cut(state, count, tmp_path / "cut"))
    assert {name: found.entries[name].shape for name in state} == {
        name: tuple(each.shape) for name, each in state.items()
    }
    for name, value in state.items():
        torch.testing.assert_close(found.read(name), value, rtol=0, atol=0)
        rows = range(1, len(value), 7)
        torch.testing.assert_close(found.read(name, rows), value[list(rows)], rtol=0, atol=0)
        assert len(found.stored(name, [])) == 0
    assert found.bytes_read
    told = compare(tmp_path / "whole.safetensors", tmp_path / "cut", layers=0)
    assert [each.name for each in told.operations] == ["identical"]


def test_trainers_that_wrap_their_parts(tmp_path):
    state = net(80)
    folder = cut(state, 2, tmp_path / "cut", "mp_rank_{:02}_model_states.pt")
    for path in folder.iterdir():
        torch.save({"module": torch.load(path), "dp_world_size": 1}, path)
    assert set(open_checkpoint(folder).entries) == set(state)


def test_what_is_no_net_that_was_cut_is_refused_in_one_line(tmp_path):
    folder = cut(net(80), 2, tmp_path / "other")
    torch.save({"norm.weight": torch.ones(WIDTH)}, folder / "consolidated.01.pth")
    with pytest.raises(UsageError, match="has other tensors"):
        open_checkpoint(folder)
    odd = {"norm.weight": torch.ones(WIDTH), "table.weight": torch.randn(10, 24)}
    with pytest.raises(UsageError, match="join the files first"):
        open_checkpoint(cut(odd, 2, tmp_path / "odd"))
    apart = cut(net(80), 2, tmp_path / "apart", "run{:02}.pth")
    with pytest.raises(UsageError, match="holds 2 checkpoints"):
        open_checkpoint(apart)
