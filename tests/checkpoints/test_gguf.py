"""GGUF files as llama.cpp's converter writes them, the block types by hand, and headers that lie."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.readers.gguf import GgufCheckpoint
from whorl.checkpoints.readers.safetensors import SafetensorsCheckpoint
from whorl.checkpoints.roles import Weights
from whorl.errors import InvalidFile, UsageError

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers": "blk",
}
KINDS = gguf.GGMLQuantizationType


def permuted(weight, heads):
    """What llama.cpp's converter does to the rows of query and key."""
    return (
        weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)
    )


def convert(folder: Path, path: Path, kind: str, arch: str = "llama", names: dict[str, str] = NAMES) -> Path:
    """The GGUF file of a checkpoint of the Llama kind, or of one that differs as ``names`` say."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_array("tokenizer.ggml.tokens", [f"token {k}" for k in range(2000)])
    writer.add_array("tokenizer.ggml.scores", [0.5] * 2000)
    writer.add_array("general.tags", ["a", "b"])
    for name, value in load_file(folder / "model.safetensors").items():
        matrix, word = value.float().numpy(), name
        for old, new in names.items():
            word = word.replace(old, new)
        if arch.startswith("gemma") and "norm" in name:
            matrix = matrix + 1
        if arch == "llama" and "q_proj" in name:
            matrix = permuted(matrix, config["num_attention_heads"])
        if arch == "llama" and "k_proj" in name:
            matrix = permuted(matrix, config["num_key_value_heads"])
        chosen = KINDS[kind if matrix.ndim > 1 else "F32"]
        writer.add_tensor(word, gguf.quantize(np.ascontiguousarray(matrix), chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def step(kind: str, value: torch.Tensor) -> torch.Tensor:
    """The furthest that rounding may carry: half a step of the type, whose scale is a half float."""
    if kind in ("F32", "F16", "BF16"):
        return value.abs() * {"F32": 0, "F16": 2**-11, "BF16": 2**-8}[kind] + (2**-25 if kind == "F16" else 0)
    blocks = value.unflatten(-1, (-1, 32)).abs().amax(-1, keepdim=True).expand(*value.shape[:-1], -1, 32)
    return blocks.flatten(-2) * {"Q8_0": (0.5 + 127 * 2**-11) / 127, "Q4_0": 1.01 / 8}[kind]


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0"])
def test_a_llama_is_the_same_from_either_format(saved, tmp_path, kind):
    theirs = Weights(SafetensorsCheckpoint(saved("llama")))
    checkpoint = open_checkpoint(convert(saved("llama"), tmp_path / "net.gguf", kind))
    ours = Weights(checkpoint)
    assert ours.structure.parts.keys() == theirs.structure.parts.keys()
    assert [ours.structure.heads, ours.structure.kv_heads, ours.structure.head_dim] == [4, 2, 8]
    assert (ours.structure.layers, ours.structure.width, ours.structure.norm) == (2, 32, "rms")
    assert ours.vocabulary == theirs.vocabulary
    for key in ours.structure.parts:
        found, wanted = ours.read(*key), theirs.read(*key)
        assert found.shape == wanted.shape
        limit = step(kind, wanted) if wanted.ndim > 1 else torch.zeros(())
        assert bool(((found - wanted).abs() <= limit).all()), key
        if wanted.ndim > 1:
            assert torch.equal(ours.read(*key, rows=[1, 2, 7]), found[[1, 2, 7]])
            assert torch.equal(ours.read(*key, rows=slice(3, 15)), found[3:15])
    name = "blk.0.attn_q.weight"
    before = checkpoint.bytes_read
    checkpoint.read(name, rows=[5])
    assert checkpoint.bytes_read - before == checkpoint.entries[name].nbytes // 32


def test_the_metadata_as_plain_values(saved, tmp_path):
    config = GgufCheckpoint(convert(saved("llama"), tmp_path / "net.gguf", "F16")).config
    assert config["general.architecture"] == "llama"
    assert config["llama.attention.head_count"] == 4
    assert config["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert config["general.tags"] == ["a", "b"]
    assert not any(name.startswith("tokenizer") for name in config)  # 2,000 tokens are passed over


def test_rows_are_only_put_back_where_the_converter_moved_them(saved, tmp_path):
    theirs = Weights(SafetensorsCheckpoint(saved("qwen2")))
    ours = Weights(GgufCheckpoint(convert(saved("qwen2"), tmp_path / "net.gguf", "F32", arch="qwen2")))
    for key in (each for each in ours.structure.parts if each in theirs):
        assert torch.equal(ours.read(*key), theirs.read(*key)), key
    assert ours.structure.heads == 4
    assert ("query_bias", 0, -1) in ours


def test_a_fused_mlp_is_split(saved, tmp_path):
    names = NAMES | {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}
    theirs = Weights(SafetensorsCheckpoint(saved("phi3")))
    ours = Weights(GgufCheckpoint(convert(saved("phi3"), tmp_path / "net.gguf", "F32", "phi3", names)))
    assert ours.structure.parts.keys() == theirs.structure.parts.keys()
    assert all(torch.equal(ours.read(*key), theirs.read(*key)) for key in ours.structure.parts)


def test_the_gain_of_gemma_has_had_its_one_added(saved, tmp_path):
    norms = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm"}
    names = norms | {"post_feedforward_layernorm": "post_ffw_norm"} | NAMES
    names = {old: norms.get(old, new) for old, new in names.items()}
    theirs = Weights(SafetensorsCheckpoint(saved("gemma2")))
    ours = Weights(GgufCheckpoint(convert(saved("gemma2"), tmp_path / "net.gguf", "F32", "gemma2", names)))
    assert (ours.structure.norm_offset, theirs.structure.norm_offset) == (0, 1)
    for role in ("query", "gate", "up"):
        assert torch.allclose(ours.folded(role, 1), theirs.folded(role, 1), atol=1e-6)


def test_heads_that_do_not_fit_are_told(saved, tmp_path):
    path = convert(saved("llama"), tmp_path / "net.gguf", "F32")
    content = path.read_bytes()
    place = content.index(b"llama.attention.head_count") + len("llama.attention.head_count") + 4
    path.write_bytes(content[:place] + struct.pack("<I", 5) + content[place + 4 :])
    checkpoint = GgufCheckpoint(path)
    assert checkpoint.read("blk.0.attn_v.weight").shape == (16, 32)
    with pytest.raises(InvalidFile, match=r"5 heads do not share the 32 rows of blk\.0\.attn_q\.weight"):
        checkpoint.read("blk.0.attn_q.weight")


def half(raw):
    return float(np.frombuffer(bytes(raw), "<f2")[0])


def q4_k(block):
    """ggml's block of 256 numbers in 144 bytes, number by number."""
    d, least, scales, quants = half(block[:2]), half(block[2:4]), block[4:16], block[16:]
    numbers = []
    for part in range(8):
        if part < 4:
            scale, low = scales[part] & 63, scales[part + 4] & 63
        else:
            scale = (scales[part + 4] & 15) | (scales[part - 4] >> 6) << 4
            low = (scales[part + 4] >> 4) | (scales[part] >> 6) << 4
        for k in range(32):
            byte = quants[32 * (part // 2) + k]
            numbers.append(d * scale * (byte >> 4 if part % 2 else byte & 15) - least * low)
    return numbers


def q6_k(block):
    """ggml's block of 256 numbers in 210 bytes, number by number."""
    low, high, scales, d = block[:128], block[128:192], np.frombuffer(bytes(block[192:208]), np.int8), half(block[208:])
    numbers = []
    for k in range(256):
        big, part, place = k // 128, k % 128 // 32, k % 32
        four = low[64 * big + 32 * (part % 2) + place] >> (4 if part >= 2 else 0) & 15
        two = high[32 * big + place] >> 2 * part & 3
        numbers.append(d * int(scales[8 * big + 2 * part + place // 16]) * ((four | two << 4) - 32))
    return numbers


@pytest.mark.parametrize(("kind", "size", "scalar"), [("Q4_K", 144, q4_k), ("Q6_K", 210, q6_k)])
def test_blocks_of_256(tmp_path, kind, size, scalar):
    draw = np.random.default_rng(0)
    blocks = draw.integers(0, 256, (6, 2, size), dtype=np.uint8)
    for place in (0, 2) if kind == "Q4_K" else (208,):
        scales = draw.normal(size=(6, 2)).astype("<f2")
        blocks[..., place : place + 2] = scales[..., None].view(np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "gpt2")
    writer.add_tensor("x", blocks.reshape(6, -1), raw_dtype=KINDS[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    checkpoint = GgufCheckpoint(tmp_path / "x.gguf")
    assert checkpoint.entries["x"].shape == (6, 512)
    assert (checkpoint.entries["x"].dtype, checkpoint.entries["x"].nbytes) == (kind, 12 * size)
    wanted = torch.tensor([[scalar(block) for block in row] for row in blocks.tolist()]).reshape(6, 512)
    assert torch.allclose(checkpoint.read("x"), wanted, rtol=1e-5, atol=1e-4)
    assert torch.allclose(checkpoint.read("x", rows=[1, 4]), wanted[[1, 4]], rtol=1e-5, atol=1e-4)


def text(word):
    return struct.pack("<Q", len(word)) + word.encode()


def header(fields=(), tensors=(), counts=None, version=3, magic=b"GGUF", numbers=bytes(256)):
    """A file of one's own making; a tensor is (name, dims, type, offset)."""
    content = magic + struct.pack("<IQQ", version, *(counts or (len(tensors), len(fields))))
    content += b"".join(fields)
    for name, dims, kind, offset in tensors:
        content += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
    return content + bytes(-len(content) % 32) + numbers


def number(key, value, kind=4, code="I"):
    return text(key) + struct.pack("<I" + code, kind, value)


def array(key, kind, count, content=b""):
    return text(key) + struct.pack("<IIQ", 9, kind, count) + content


GOOD = ("a", (8, 4), 0, 0)
LIES = {
    "another magic": header(tensors=[GOOD], magic=b"GGML"),
    "version 1": header(tensors=[GOOD], version=1),
    "big-endian": header(tensors=[GOOD], version=3 << 24),
    "2^60 tensors": header(counts=(1 << 60, 0)),
    "2^60 fields": header(counts=(1, 1 << 60)),
    "100,000 fields that are not there": header(counts=(1, 100_000)),
    "a million tensors that are not there": header(counts=(1_000_000, 0)),
    "no tensors": header(),
    "a text of 2^60 bytes": header([struct.pack("<Q", 1 << 60)], [GOOD]),
    "2^60 texts": header([array("x", 8, 1 << 60)], [GOOD]),
    "2^60 numbers": header([array("x", 4, 1 << 60)], [GOOD]),
    "2^63 bytes": header([array("x", 0, (1 << 64) - 1)], [GOOD]),
    "an array of arrays": header([array("x", 9, 1, struct.pack("<IQ", 4, 0))], [GOOD]),
    "an array of an unknown type": header([array("x", 77, 1)], [GOOD]),
    "a field of an unknown type": header([number("x", 1, kind=13)], [GOOD]),
    "two fields of one name": header([number("x", 1), number("x", 1)], [GOOD]),
    "aligned to nothing": header([number("general.alignment", 0)], [GOOD]),
    "aligned to 3": header([number("general.alignment", 3)], [GOOD]),
    "aligned to a text": header([text("general.alignment") + struct.pack("<I", 8) + text("x")], [GOOD]),
    "aligned to 2^31": header([number("general.alignment", 1 << 31)], [GOOD]),
    "a tensor beyond the end": header(tensors=[("a", (8, 4), 0, 160)]),
    "a tensor that wraps around": header(tensors=[("a", (8, 4), 0, (1 << 64) - 32)]),
    "a tensor of 2^60 numbers": header(tensors=[("a", (1 << 60,), 0, 0)]),
    "a product beyond 64 bits": header(tensors=[("a", (1 << 40, 1 << 40), 0, 0)]),
    "2^60 empty rows": header(tensors=[("a", (0, 1 << 60), 0, 0), ("b", (8,), 0, 0)]),
    "nine axes": header(tensors=[("a", (1,) * 9, 0, 0)]),
    "2^31 axes": header(tensors=[GOOD]).replace(
        text("a") + struct.pack("<I", 2), text("a") + struct.pack("<I", 1 << 31)
    ),
    "an unknown type": header(tensors=[("a", (8, 4), 999, 0)]),
    "a type of the past": header(tensors=[("a", (32, 4), 4, 0)]),
    "half a block": header(tensors=[("a", (16, 2), 8, 0)]),
    "a number in blocks": header(tensors=[("a", (), 8, 0)]),
    "two tensors of one name": header(tensors=[GOOD, ("a", (8,), 0, 128)]),
    "overlapping tensors": header(tensors=[GOOD, ("b", (8,), 0, 64)]),
    "a name of two lines": header(tensors=[("a\nb", (8, 4), 0, 0)]),
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_lie(tmp_path, lie):
    (tmp_path / "x.gguf").write_bytes(LIES[lie])
    with pytest.raises(InvalidFile) as error:
        GgufCheckpoint(tmp_path / "x.gguf")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700


def test_a_header_of_ones_own_making_is_read_when_it_is_true(tmp_path):
    """So the lies above are refused for their lie alone."""
    numbers = torch.arange(64.0)
    fields = [number("x", 7), number("h", 1.5, 6, "f"), array("y", 4, 3, struct.pack("<3I", 1, 2, 3)), array("z", 8, 0)]
    tensors = [("a", (8, 4), 0, 0), ("b", (8,), 0, 128), ("c", (), 0, 160), ("d", (3, 0), 0, 0)]
    (tmp_path / "x.gguf").write_bytes(header(fields, tensors, numbers=numbers.numpy().tobytes()))
    checkpoint = GgufCheckpoint(tmp_path / "x.gguf")
    assert checkpoint.config == {"x": 7, "h": 1.5, "y": [1, 2, 3], "z": []}
    assert torch.equal(checkpoint.read("a"), numbers[:32].reshape(4, 8))
    assert torch.equal(checkpoint.read("b", rows=[3, 4]), numbers[35:37])
    assert checkpoint.read("c") == numbers[40]
    assert checkpoint.read("d").shape == (0, 3)


def test_what_has_no_unpacking_is_told_when_it_is_read(tmp_path, monkeypatch):
    known = {kind for kind in KINDS if kind.name == "Q8_K"}
    block, size = gguf.GGML_QUANT_SIZES[known.pop()]
    (tmp_path / "x.gguf").write_bytes(header(tensors=[("a", (block, 1), KINDS.Q8_K.value, 0)], numbers=bytes(size)))
    checkpoint = GgufCheckpoint(tmp_path / "x.gguf")
    with pytest.raises(InvalidFile, match="a has the type Q8_K, which is not read"):
        checkpoint.read("a")


def test_a_model_in_parts(tmp_path):
    for part in (1, 2):
        fields = [number("split.count", 2, 2, "H"), number("split.tensors.count", 2)]
        name = tmp_path / f"net-0000{part}-of-00002.gguf"
        name.write_bytes(header(fields, [(f"a{part}", (8, 4), 0, 0)]))
    for path in (tmp_path, tmp_path / "net-00001-of-00002.gguf"):
        assert list(open_checkpoint(path).entries) == ["a1", "a2"]
    os.replace(tmp_path / "net-00002-of-00002.gguf", tmp_path / "other.gguf")
    with pytest.raises(UsageError, match="no such file"):
        open_checkpoint(tmp_path / "net-00001-of-00002.gguf")
    os.replace(tmp_path / "net-00001-of-00002.gguf", tmp_path / "alone.gguf")
    with pytest.raises(InvalidFile, match="hold 1 of 2 tensors"):
        open_checkpoint(tmp_path / "alone.gguf")
    with pytest.raises(UsageError, match="holds 2 checkpoints"):
        open_checkpoint(tmp_path)
