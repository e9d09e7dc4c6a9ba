"""Headers of safetensors that lie, and reading by place."""

from __future__ import annotations

import json
import os
import struct

import pytest
import torch
from safetensors.torch import save_file

from whorl.checkpoints.readers.safetensors import SafetensorsCheckpoint
from whorl.errors import InvalidFile, UsageError


def write(path, header, numbers=bytes(64), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + numbers)
    return path


def tensor(first, last, shape=(4,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [first, last]}


LIES = {
    "beyond the file": {"a": tensor(64, 80)},
    "cut off": {"a": tensor(0, 80, (20,))},
    "overlapping": {"a": tensor(0, 32, (8,)), "b": tensor(16, 64, (12,))},
    "a gap": {"a": tensor(0, 16), "b": tensor(48, 64)},
    "negative places": {"a": tensor(-16, 0)},
    "places the wrong way round": {"a": tensor(64, 0, (16,))},
    "a negative axis": {"a": tensor(0, 64, (-4, -4))},
    "2^60 numbers": {"a": tensor(0, 64, (1 << 60,))},
    "a product beyond 64 bits": {"a": tensor(0, 64, (1 << 40, 1 << 40))},
    "2^60 empty rows": {"a": tensor(0, 0, (1 << 60, 0)), "b": tensor(0, 64, (16,))},
    "a shape of texts": {"a": tensor(0, 64, ("16",))},
    "an unknown type": {"a": tensor(0, 64, (16,), "F31")},
    "a type of half a byte": {"a": tensor(0, 64, (128,), "F4")},
    "a type that is not read": {"a": tensor(0, 64, (8,), "U64")},
    "no shape": {"a": {"dtype": "F32", "data_offsets": [0, 64]}},
    "a list": [1, 2],
    "a number for a tensor": {"a": 3},
    "nothing": {},
    "only metadata": {"__metadata__": {"a": "b"}},
    "a name of two lines": {"a\nb": tensor(0, 64, (16,))},
    "a name without end": {"a" * 2000: tensor(0, 64, (16,))},
    "no JSON": b"{" * 50,
    "deep JSON": b"[" * 100_000,
    "no UTF-8": b"\xff" * 50,
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_lie(tmp_path, lie):
    numbers = b"" if lie in ("nothing", "only metadata") else bytes(64)
    path = write(tmp_path / "x.safetensors", LIES[lie], numbers)
    with pytest.raises(InvalidFile) as error:
        SafetensorsCheckpoint(path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700


@pytest.mark.parametrize("length", [0, 1, 7, 1 << 20, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_a_header_of_another_length(tmp_path, length):
    path = write(tmp_path / "x.safetensors", {"a": tensor(0, 64, (16,))}, length=length)
    with pytest.raises(InvalidFile, match="not a whole safetensors file"):
        SafetensorsCheckpoint(path)


@pytest.mark.parametrize("shape", [(0, *[1 << 31] * 8), (2**33, 0, 2), (0, *[1] * 100)])
def test_an_axis_of_nothing_does_not_make_the_others_harmless(tmp_path, shape):
    path = write(tmp_path / "x.safetensors", {"a": tensor(0, 0, shape)}, b"")
    with pytest.raises(InvalidFile, match="elements in 64 axes are read"):
        SafetensorsCheckpoint(path)


def test_a_file_that_shrinks_after_it_was_opened(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.arange(1000.0), "b": torch.arange(1000.0)}, path)
    checkpoint = SafetensorsCheckpoint(path)
    os.truncate(path, path.stat().st_size - 100)
    assert torch.equal(checkpoint.read("a"), torch.arange(1000.0))
    with pytest.raises(InvalidFile, match="was cut off while it was read"):
        checkpoint.read("b")


def test_every_type_keeps_its_numbers(tmp_path):
    kinds = [torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
    kinds += [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16]
    state = {str(kind): torch.tensor([[0, 1], [1, 0], [1, 1]]).to(kind) for kind in kinds}
    save_file(state, tmp_path / "x.safetensors")
    checkpoint = SafetensorsCheckpoint(tmp_path / "x.safetensors")
    for name, value in state.items():
        assert checkpoint.stored(name).dtype == value.dtype
        assert torch.equal(checkpoint.read(name), value.float())
        assert torch.equal(checkpoint.read(name, rows=[0, 2]), value.float()[[0, 2]])


def test_only_the_rows_that_are_asked_for_are_read(tmp_path):
    """A sparse file of 8 GB takes no memory and little time, so only rows are read."""
    high, wide = 1 << 20, 1 << 11
    path = write(tmp_path / "x.safetensors", {"a": tensor(0, 4 * high * wide, (high, wide))}, b"")
    os.truncate(path, path.stat().st_size + 4 * high * wide)
    checkpoint = SafetensorsCheckpoint(path)
    assert checkpoint.read("a", rows=[0, 7, high - 1]).shape == (3, wide)
    assert checkpoint.bytes_read == 3 * 4 * wide
    assert checkpoint.nbytes == 4 * high * wide


def test_missing_files(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        SafetensorsCheckpoint(tmp_path / "x.safetensors")
