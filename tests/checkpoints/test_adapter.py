"""Adapters of low rank, held against their sum written down."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.readers.adapter import Adapter
from whorl.checkpoints.roles import Weights
from whorl.errors import InvalidFile, UsageError

QUERY = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.1.mlp.down_proj"


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lora(folder, tensors=None, **settings):
    """An adapter's folder."""
    folder.mkdir(exist_ok=True)
    if tensors is None:
        tensors = {
            f"base_model.model.{QUERY}.lora_A.weight": draw(4, 32),
            f"base_model.model.{QUERY}.lora_B.weight": draw(32, 4, seed=1),
            f"base_model.model.{DOWN}.lora_A.weight": draw(2, 64, seed=2),
            f"base_model.model.{DOWN}.lora_B.weight": draw(32, 2, seed=3),
        }
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "fan_in_fan_out": False, **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def base(saved):
    return saved("llama")


def test_the_sum_of_base_and_update(base, tmp_path):
    adapter = open_checkpoint(lora(tmp_path / "a"), base=base)
    plain = open_checkpoint(base)
    assert isinstance(adapter, Adapter)
    assert set(adapter.updated) == {f"{QUERY}.weight", f"{DOWN}.weight"}
    assert [adapter.rank(f"{QUERY}.weight"), adapter.rank(f"{DOWN}.weight"), adapter.rank("lm_head.weight")] == [
        4,
        2,
        0,
    ]
    wanted = plain.read(f"{QUERY}.weight") + 6 / 4 * draw(32, 4, seed=1) @ draw(4, 32)
    assert torch.allclose(adapter.read(f"{QUERY}.weight"), wanted, atol=1e-5)
    wanted = plain.read(f"{DOWN}.weight") + 6 / 2 * draw(32, 2, seed=3) @ draw(2, 64, seed=2)
    assert torch.allclose(adapter.read(f"{DOWN}.weight"), wanted, atol=1e-5)
    assert torch.allclose(adapter.read(f"{DOWN}.weight", rows=[1, 5]), wanted[[1, 5]], atol=1e-5)
    assert torch.equal(adapter.read("lm_head.weight"), plain.read("lm_head.weight"))
    assert adapter.entries.keys() == plain.entries.keys()
    assert adapter.entries[f"{QUERY}.weight"].dtype == "LORA"
    net = Weights(adapter)
    assert (net.structure.architecture, net.structure.heads) == ("llama", 4)
    assert torch.allclose(net.read("down", 1), wanted, atol=1e-5)


def test_an_update_is_told_without_reading_the_base(base, tmp_path):
    adapter = open_checkpoint(lora(tmp_path / "a"), base=open_checkpoint(base))
    b, a, scaling = adapter.update(f"{QUERY}.weight")
    assert (b.shape, a.shape, scaling) == ((32, 4), (4, 32), 1.5)
    assert adapter.base.bytes_read == 0
    assert adapter.bytes_read == a.nbytes + b.nbytes
    adapter.read("lm_head.weight", rows=[0])
    assert adapter.bytes_read == a.nbytes + b.nbytes + 32 * 4
    with pytest.raises(UsageError, match=r"adds nothing to 'lm_head\.weight'"):
        adapter.update("lm_head.weight")


def test_scalings(base, tmp_path):
    adapter = open_checkpoint(lora(tmp_path / "a", use_rslora=True), base=base)
    assert adapter.update(f"{QUERY}.weight")[2] == 3
    assert adapter.update(f"{DOWN}.weight")[2] == 6 / math.sqrt(2)
    settings = {"alpha_pattern": {"1.mlp.down_proj": 10, "_proj": 99}}
    adapter = open_checkpoint(lora(tmp_path / "b", **settings), base=base)
    assert [adapter.update(f"{name}.weight")[2] for name in (QUERY, DOWN)] == [1.5, 5]


def test_gpt2_stores_matrices_the_other_way_round(saved, tmp_path):
    name = "transformer.h.1.mlp.c_fc"
    tensors = {
        f"base_model.model.{name}.lora_A.weight": draw(3, 32),
        f"base_model.model.{name}.lora_B.weight": draw(128, 3, seed=1),
    }
    folder = lora(tmp_path / "a", tensors, fan_in_fan_out=True)
    adapter, plain = open_checkpoint(folder, base=saved("gpt2")), open_checkpoint(saved("gpt2"))
    wanted = plain.read(f"{name}.weight") + 2 * (draw(128, 3, seed=1) @ draw(3, 32)).T
    assert torch.allclose(adapter.read(f"{name}.weight"), wanted, atol=1e-5)
    assert torch.allclose(adapter.read(f"{name}.weight", rows=[3, 4]), wanted[3:5], atol=1e-5)
    b, a, scaling = adapter.update(f"{name}.weight")
    assert torch.allclose(plain.read(f"{name}.weight") + scaling * b @ a, wanted, atol=1e-5)
    with pytest.raises(InvalidFile, match=r"do not make \(32, 128\)"):
        open_checkpoint(lora(tmp_path / "b", tensors), base=saved("gpt2"))
    bare = {
        key.removeprefix("transformer."): plain.read(key) for key in plain.entries if key.startswith("transformer.")
    }
    save_file(bare, tmp_path / "bare.safetensors")  # as the hub has it: without the words before the first layer
    adapter = open_checkpoint(folder, base=tmp_path / "bare.safetensors")
    assert torch.allclose(adapter.read("h.1.mlp.c_fc.weight"), wanted, atol=1e-5)


def test_embeddings_whole_tensors_and_convolutions(tmp_path):
    state = {
        "embed.weight": draw(10, 6),
        "head.weight": draw(10, 6),
        "conv.weight": draw(5, 3, 2, 2),
        "x.bias": draw(4),
    }
    save_file(state, tmp_path / "base.safetensors")
    tensors = {
        "base_model.model.embed.lora_embedding_A": draw(2, 10, seed=1),
        "base_model.model.embed.lora_embedding_B": draw(6, 2, seed=2),
        "base_model.model.head.weight": draw(10, 6, seed=3),
        "base_model.model.x.bias": draw(4, seed=6),
        "base_model.model.conv.lora_A.weight": draw(2, 3, 2, 2, seed=4),
        "base_model.model.conv.lora_B.weight": draw(5, 2, 1, 1, seed=5),
    }
    adapter = open_checkpoint(lora(tmp_path / "a", tensors), base=tmp_path / "base.safetensors")
    wanted = state["embed.weight"] + 3 * (draw(6, 2, seed=2) @ draw(2, 10, seed=1)).T
    assert torch.allclose(adapter.read("embed.weight"), wanted, atol=1e-5)
    assert torch.equal(adapter.read("head.weight"), draw(10, 6, seed=3))
    assert torch.equal(adapter.read("head.weight", rows=[9]), draw(10, 6, seed=3)[9:])
    assert torch.equal(adapter.read("x.bias"), draw(4, seed=6))
    assert set(adapter.updated) == {"embed.weight", "conv.weight"}
    x = draw(1, 3, 8, 8, seed=7)
    conv = torch.nn.functional.conv2d
    factors = conv(conv(x, draw(2, 3, 2, 2, seed=4)), draw(5, 2, 1, 1, seed=5))
    wanted = conv(x, state["conv.weight"]) + 3 * factors
    assert torch.allclose(conv(x, adapter.read("conv.weight")), wanted, atol=1e-4)


def test_an_old_adapter_is_read_from_its_pickle_without_running_it(base, tmp_path):
    folder = lora(tmp_path / "a")
    state = {
        f"base_model.model.{QUERY}.lora_{side}.weight": draw(*shape)
        for side, shape in zip("AB", [(4, 32), (32, 4)], strict=True)
    }
    torch.save(state, folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    assert open_checkpoint(folder, base=base).updated == (f"{QUERY}.weight",)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"peft_type": "IA3"}, "type 'IA3'; LORA is read"),
        ({"peft_type": None}, "type 'None'"),
        ({"use_dora": True}, "DoRA"),
        ({"lora_bias": True}, "biases of its factors"),
        ({"init_lora_weights": "pissa_niter_4"}, "began as 'pissa_niter_4'"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "no plain name"),
    ],
)
def test_other_adapters_are_refused(base, tmp_path, settings, told):
    with pytest.raises(UsageError, match=told.replace("+", r"\+").replace("(", r"\(")):
        open_checkpoint(lora(tmp_path / "a", **settings), base=base)


A, B = f"base_model.model.{QUERY}.lora_A.weight", f"base_model.model.{QUERY}.lora_B.weight"


@pytest.mark.parametrize(
    ("tensors", "settings", "told"),
    [
        ({A: draw(4, 32)}, {}, "only one of two factors"),
        ({A: draw(4, 32), B: draw(32, 3)}, {}, "the factors of"),
        ({A: draw(0, 32), B: draw(32, 0)}, {}, "the factors of"),
        ({A: draw(4), B: draw(4)}, {}, "the factors of"),
        ({A: draw(4, 31), B: draw(32, 4)}, {}, "do not make"),
        ({A: draw(4, 32), B: draw(16, 4)}, {}, "do not make"),
        (
            {A.replace("q_proj", "x_proj"): draw(4, 32), B.replace("q_proj", "x_proj"): draw(32, 4)},
            {},
            "is it its base",
        ),
        ({A: draw(4, 32), B: draw(32, 4)}, {"lora_alpha": None}, "lora_alpha is None"),
        ({A: draw(4, 32), B: draw(32, 4)}, {"lora_alpha": "8"}, "lora_alpha is 8"),
        ({"base_model.model.lm_head.weight": draw(3, 3)}, {}, "unlike the base"),
        ({"base_model.model.ghost.weight": draw(3, 3)}, {}, "is it its base"),
    ],
)
def test_factors_that_do_not_fit(base, tmp_path, tensors, settings, told):
    with pytest.raises(InvalidFile, match=told) as error:
        open_checkpoint(lora(tmp_path / "a", tensors, **settings), base=base)
    assert str(error.value).isprintable()


def test_the_magnitudes_of_dora_are_told(base, tmp_path):
    tensors = {A: draw(4, 32), B: draw(32, 4), A.replace("lora_A.weight", "lora_magnitude_vector"): draw(32)}
    with pytest.raises(UsageError, match="a part of an adapter that is not read"):
        open_checkpoint(lora(tmp_path / "a", tensors), base=base)


def test_an_adapter_needs_its_base(base, tmp_path):
    folder = lora(tmp_path / "a")
    with pytest.raises(UsageError, match=r"is an adapter; give the base too: --base FOLDER"):
        open_checkpoint(folder)
    with pytest.raises(UsageError, match="is an adapter of what it calls 'someone/llama'; give the base too"):
        open_checkpoint(lora(tmp_path / "a", base_model_name_or_path="someone/llama"))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"neither adapter_model\.safetensors nor adapter_model\.bin"):
        open_checkpoint(folder, base=base)
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(InvalidFile, match="not a JSON object"):
        open_checkpoint(folder, base=base)


def test_an_adapter_over_an_adapter(base, tmp_path):
    first = open_checkpoint(lora(tmp_path / "a"), base=base)
    second = open_checkpoint(lora(tmp_path / "b"), base=first)
    update = 1.5 * draw(32, 4, seed=1) @ draw(4, 32)
    assert torch.allclose(second.read(f"{QUERY}.weight"), first.read(f"{QUERY}.weight") + update, atol=1e-5)
