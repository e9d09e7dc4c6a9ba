"""Packed weights, quantised here by plain loops from the formats' definitions."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from whorl.checkpoints.opening import open_checkpoint
from whorl.errors import InvalidFile, UsageError


def matrix(outputs, inputs, seed=0):
    return 0.1 * torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed)) + 0.02


def quantise(weight, bits, group_of):
    """Numbers [out, in], scales and zero points [groups, out]: the range of each group spread over 2^bits steps."""
    top, groups = 2**bits - 1, int(group_of.max()) + 1
    scales, zeros = torch.zeros(groups, len(weight)), torch.zeros(groups, len(weight), dtype=torch.long)
    numbers = torch.zeros(weight.shape, dtype=torch.long)
    for group in range(groups):
        inside = group_of == group
        for output in range(len(weight)):
            part = weight[output, inside]
            low, high = min(0.0, float(part.min())), max(0.0, float(part.max()))
            scale = torch.tensor((high - low) / top).half().float()
            zero = max(1, min(top, round(-low / float(scale))))
            numbers[output, inside] = (part / scale).round().long().add(zero).clamp(0, top)
            scales[group, output], zeros[group, output] = scale, zero
    return numbers, scales, zeros


def signed(word):
    return word - (1 << 32) if word >> 31 else word


def stream(row, bits):
    """Numbers as one long integer, cut into words of 32 bits."""
    whole = sum(int(number) << bits * place for place, number in enumerate(row))
    return [signed(whole >> 32 * word & (1 << 32) - 1) for word in range(len(row) * bits // 32)]


def nibbles(row):
    """The order of AWQ: nibble k of a word is column 0, 2, 4, 6, 1, 3, 5, 7."""
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    return [
        signed(sum(int(row[8 * word + column]) << 4 * place for place, column in enumerate(order)))
        for word in range(len(row) // 8)
    ]


def pack(rows, how):
    return torch.tensor([how(row) for row in rows.tolist()], dtype=torch.int32)


def gptq(weight, bits, group_of, *, less=1, prefix="model.layers.0.mlp.up_proj"):
    numbers, scales, zeros = quantise(weight, bits, group_of)
    tensors = {
        f"{prefix}.qweight": pack(numbers, lambda row: stream(row, bits)).T.contiguous(),
        f"{prefix}.qzeros": pack(zeros - less, lambda row: stream(row, bits)),
        f"{prefix}.scales": scales.half(),
        f"{prefix}.g_idx": group_of.int(),
    }
    wanted = scales[group_of].T * (numbers - zeros[group_of].T)
    return tensors, wanted


def awq(weight, group_of, prefix="model.layers.0.mlp.up_proj"):
    numbers, scales, zeros = quantise(weight, 4, group_of)
    tensors = {
        f"{prefix}.qweight": pack(numbers.T, nibbles),
        f"{prefix}.qzeros": pack(zeros, nibbles),
        f"{prefix}.scales": scales.half(),
    }
    return tensors, scales[group_of].T * (numbers - zeros[group_of].T)


def folder_of(folder, tensors, config=None):
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"quantization_config": config} if config else {}))
    return open_checkpoint(folder)


NAME = "model.layers.0.mlp.up_proj.weight"


def check(checkpoint, weight, wanted):
    assert checkpoint.format == "packed"
    found = checkpoint.read(NAME)
    assert found.shape == checkpoint.entries[NAME].shape == weight.shape
    assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.equal(checkpoint.read(NAME, rows=[0, 3, 30]), found[[0, 3, 30]])
    return float((found - weight).abs().max())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("indexed", [True, False])
def test_gptq(tmp_path, bits, indexed):
    weight, group_of = matrix(32, 128), torch.arange(128) // 32
    tensors, wanted = gptq(weight, bits, group_of)
    if not indexed:
        del tensors[NAME.replace("weight", "g_idx")]
    others = {"model.norm.weight": torch.ones(4), NAME.replace("weight", "bias"): torch.zeros(32)}
    checkpoint = folder_of(tmp_path, tensors | others, {"quant_method": "gptq", "bits": bits, "group_size": 32})
    assert set(checkpoint.entries) == {NAME, *others}
    assert checkpoint.entries[NAME].dtype == f"GPTQ{bits}"
    assert check(checkpoint, weight, wanted) < 0.75 * 0.7 / (2**bits - 1)
    assert checkpoint.bytes_read == 2 * checkpoint.entries[NAME].nbytes == 2 * sum(t.nbytes for t in tensors.values())
    assert torch.equal(checkpoint.read("model.norm.weight"), torch.ones(4))


def test_gptq_with_inputs_in_the_order_of_their_activation(tmp_path):
    weight = matrix(32, 128)
    group_of = torch.arange(128)[torch.randperm(128, generator=torch.Generator().manual_seed(1))] // 32
    tensors, wanted = gptq(weight, 4, group_of)
    check(folder_of(tmp_path, tensors), weight, wanted)


def test_gptq_of_the_second_version_stores_zero_points_as_they_are(tmp_path):
    weight, group_of = matrix(32, 64), torch.arange(64) // 32
    tensors, wanted = gptq(weight, 4, group_of, less=0)
    config = {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"}
    check(folder_of(tmp_path, tensors, config), weight, wanted)
    first = folder_of(tmp_path, tensors, {"quant_method": "gptq", "bits": 4})
    assert not torch.allclose(first.read(NAME), wanted, atol=1e-3)


def test_the_settings_that_autogptq_lays_beside(tmp_path):
    weight, group_of = matrix(32, 64), torch.arange(64) // 32
    tensors, wanted = gptq(weight, 4, group_of, less=0)
    (tmp_path / "quantize_config.json").write_text(json.dumps({"bits": 4, "checkpoint_format": "gptq_v2"}))
    check(folder_of(tmp_path, tensors), weight, wanted)


def test_awq(tmp_path):
    weight, group_of = matrix(32, 128), torch.arange(128) // 64
    tensors, wanted = awq(weight, group_of)
    checkpoint = folder_of(tmp_path, tensors, {"quant_method": "awq", "bits": 4, "version": "gemm"})
    assert checkpoint.entries[NAME].dtype == "AWQ4"
    assert check(checkpoint, weight, wanted) < 0.75 * 0.8 / 15


@pytest.mark.parametrize("shape", [(256, 256), (200, 300), (64, 40)])
def test_blocks_of_fp8(tmp_path, shape):
    weight = matrix(*shape) * torch.arange(1, shape[0] + 1)[:, None]
    high, wide = (-(-size // 128) for size in shape)
    scales, numbers = torch.zeros(high, wide), torch.zeros(shape, dtype=torch.float8_e4m3fn)
    wanted = torch.zeros(shape)
    for i in range(high):
        for j in range(wide):
            place = slice(128 * i, 128 * i + 128), slice(128 * j, 128 * j + 128)
            scales[i, j] = weight[place].abs().max() / 448
            numbers[place] = (weight[place] / scales[i, j]).to(torch.float8_e4m3fn)
            wanted[place] = numbers[place].float() * scales[i, j]
    tensors = {NAME: numbers, NAME + "_scale_inv": scales}
    checkpoint = folder_of(tmp_path, tensors, {"quant_method": "fp8", "weight_block_size": [128, 128]})
    assert list(checkpoint.entries) == [NAME]
    check(checkpoint, weight, wanted)
    relative = (checkpoint.read(NAME) - weight).abs() / weight.abs().amax()
    assert float(relative.max()) <= 2**-4
    before = checkpoint.bytes_read
    checkpoint.read(NAME, rows=[5])
    assert checkpoint.bytes_read - before == shape[1] + scales.nbytes


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.int8])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (32,), (32, 1)])
def test_one_scale_or_one_for_each_row(tmp_path, kind, shape):
    weight = matrix(32, 40)
    rows = weight.abs().amax(1, keepdim=True) if math.prod(shape) == 32 else weight.abs().amax().reshape(1, 1)
    scale = rows / (127 if kind == torch.int8 else 448)
    numbers = (weight / scale).round().to(kind) if kind == torch.int8 else (weight / scale).to(kind)
    tensors = {NAME: numbers, NAME + "_scale": scale.reshape(shape), "model.bytes": torch.zeros(3, dtype=torch.int8)}
    checkpoint = folder_of(tmp_path, tensors, {"quant_method": "compressed-tensors"})
    check(checkpoint, weight, numbers.float() * scale)
    assert checkpoint.entries["model.bytes"].dtype == "I8"


def test_numbers_of_8_bits_without_scales_are_plain(tmp_path):
    assert folder_of(tmp_path, {NAME: matrix(3, 4).to(torch.float8_e4m3fn)}).format == "safetensors"


@pytest.mark.parametrize(
    ("config", "tensors", "told"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, {NAME: torch.zeros(8, 1, dtype=torch.uint8)}, "bits"),
        (None, {NAME + ".quant_state.bitsandbytes__nf4": torch.zeros(3, dtype=torch.uint8)}, "bitsandbytes 4-bit"),
        (None, {NAME: torch.zeros(2, 2, dtype=torch.int8), NAME.replace("weight", "SCB"): torch.ones(2)}, "8-bit"),
        (None, {NAME + "_packed": torch.zeros(2, 2, dtype=torch.int32)}, "compressed-tensors packed"),
        ({"quant_method": "hqq"}, {NAME: torch.zeros(2, 2)}, "hqq"),
        ({"quant_method": ["x"] * 1000}, {NAME: torch.zeros(2, 2)}, "is packed as"),
    ],
)
def test_what_is_not_unpacked_says_what_to_do(tmp_path, config, tensors, told):
    with pytest.raises(UsageError, match=rf"{told}.* is not read\. Unpack it first: transformers\..*dequantize\(\)"):
        folder_of(tmp_path, tensors, config)


def test_other_layouts_are_refused(tmp_path):
    tensors, _ = awq(matrix(32, 64), torch.arange(64) // 32)
    with pytest.raises(UsageError, match="layout 'gemv'"):
        folder_of(tmp_path, tensors, {"quant_method": "awq", "version": "gemv"})
    with pytest.raises(UsageError, match="layout 'marlin'"):
        folder_of(tmp_path, tensors, {"quant_method": "gptq", "checkpoint_format": "marlin"})


STEM = NAME.removesuffix(".weight")
LIES = {
    "no zero points": {f"{STEM}.qzeros": None},
    "no scales": {f"{STEM}.scales": None},
    "scales of a row": {f"{STEM}.scales": torch.ones(32)},
    "too many scales": {f"{STEM}.scales": torch.ones(3, 32)},
    "scales of other outputs": {f"{STEM}.scales": torch.ones(2, 31)},
    "no scales of no groups": {f"{STEM}.scales": torch.ones(0, 32), f"{STEM}.qzeros": torch.ones(0, 4).int()},
    "no outputs": {f"{STEM}.scales": torch.ones(2, 0), f"{STEM}.qzeros": torch.ones(2, 0).int()},
    "5 bits": {f"{STEM}.qzeros": torch.ones(2, 5).int()},
    "an index of other inputs": {f"{STEM}.g_idx": torch.zeros(63).int()},
    "an index beyond": {f"{STEM}.g_idx": torch.full((64,), 2).int()},
    "an index below": {f"{STEM}.g_idx": torch.full((64,), -1).int()},
    "fractions for numbers": {f"{STEM}.qweight": torch.ones(8, 32)},
    "both packed and plain": {NAME: torch.ones(32, 64)},
}


@pytest.mark.parametrize("lie", LIES)
def test_parts_that_contradict_each_other(tmp_path, lie):
    tensors, _ = gptq(matrix(32, 64), 4, torch.arange(64) // 32)
    tensors = {name: value for name, value in (tensors | LIES[lie]).items() if value is not None}
    with pytest.raises(InvalidFile) as error:
        folder_of(tmp_path, tensors).read(NAME)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("scale", [torch.ones(2, 2), torch.ones(31), torch.ones(1, 1, 32, 1), torch.ones(0)])
@pytest.mark.parametrize("end", ["_scale", "_scale_inv"])
def test_scales_that_do_not_fit(tmp_path, scale, end):
    with pytest.raises(InvalidFile, match="does not scale"):
        folder_of(tmp_path, {NAME: torch.zeros(32, 40).to(torch.float8_e4m3fn), NAME + end: scale})


@pytest.mark.parametrize("said", [[0, 128], [128], "128", [128, -1], [1.5, 2], 7])
def test_block_sizes_that_are_none(tmp_path, said):
    tensors = {NAME: torch.zeros(32, 40).to(torch.float8_e4m3fn), NAME + "_scale_inv": torch.ones(1, 1)}
    with pytest.raises(InvalidFile, match="two numbers are needed"):
        folder_of(tmp_path, tensors, {"quant_method": "fp8", "weight_block_size": said})
