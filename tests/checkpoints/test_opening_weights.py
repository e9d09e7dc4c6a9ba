"""One net in every format gives the same matrices; what is no checkpoint, or several, is told so."""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from safetensors.torch import load_file, save_file

from whorl.checkpoints.opening import open_checkpoint
from whorl.errors import InvalidFile, MissingExtra, UsageError, WhorlError

ROUNDED = [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]


def same(checkpoint, state, dtype=torch.float32):
    """Half a step of the type away at most; steps stay equal below its smallest normal number."""
    limits = torch.finfo(dtype)
    relative, absolute = (0.0, 0.0) if dtype == torch.float32 else (limits.eps / 2, limits.tiny * limits.eps / 2)
    assert checkpoint.entries.keys() == state.keys()
    for name, value in state.items():
        found = checkpoint.read(name)
        assert found.dtype == torch.float32
        assert torch.allclose(found, value.float(), rtol=relative, atol=absolute), name
        assert found.shape == checkpoint.entries[name].shape


@pytest.fixture(scope="module")
def state(saved):
    return load_file(saved("llama") / "model.safetensors")


@pytest.mark.parametrize("dtype", ROUNDED)
@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pt"])
def test_one_file(state, tmp_path, dtype, suffix):
    cast = {name: value.to(dtype) for name, value in state.items()}
    path = tmp_path / f"net{suffix}"
    save_file(cast, path) if suffix == ".safetensors" else torch.save(cast, path)
    for given_path in (path, tmp_path):
        checkpoint = open_checkpoint(given_path)
        same(checkpoint, state, dtype)
        assert checkpoint.bytes_read == checkpoint.nbytes == sum(value.nbytes for value in cast.values())
        name = "model.layers.0.mlp.up_proj.weight"
        assert torch.equal(checkpoint.stored(name).view(torch.uint8), cast[name].view(torch.uint8))
        before = checkpoint.bytes_read
        rows = checkpoint.read(name, rows=[0, 5, 6, 63])
        assert torch.equal(rows, cast[name].float()[[0, 5, 6, 63]])
        assert checkpoint.bytes_read - before == 4 * cast[name][0].nbytes
        assert torch.equal(checkpoint.read(name, rows=slice(2, 4)), cast[name].float()[2:4])


def split(state, folder, ending, index, save):
    """Three shards and their index."""
    names = sorted(state)
    places = {name: f"{ending[0]}-{1 + k % 3:05}-of-00003{ending[1]}" for k, name in enumerate(names)}
    for file in set(places.values()):
        save({name: state[name].clone() for name in names if places[name] == file}, folder / file)
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": places}))


SPLITS = {
    "safetensors": (("model", ".safetensors"), "model.safetensors.index.json", save_file),
    "torch": (("pytorch_model", ".bin"), "pytorch_model.bin.index.json", torch.save),
}


@pytest.mark.parametrize("kind", SPLITS)
def test_shards(state, saved, tmp_path, kind):
    split(state, tmp_path, *SPLITS[kind])
    shutil.copy(saved("llama") / "config.json", tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.format == kind
    assert checkpoint.config["model_type"] == "llama"
    same(checkpoint, state)


@pytest.mark.parametrize("kind", SPLITS)
@pytest.mark.parametrize("lie", ["../x", "/etc/passwd", "..", "", "a/b.bin", None, 3])
def test_an_index_that_names_other_places(state, tmp_path, kind, lie):
    split(state, tmp_path, *SPLITS[kind])
    index = tmp_path / SPLITS[kind][1]
    document = json.loads(index.read_text())
    document["weight_map"]["lm_head.weight"] = lie
    index.write_text(json.dumps(document))
    with pytest.raises((InvalidFile, UsageError), match=r"no file of this folder|no such file"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", SPLITS)
def test_an_index_with_false_promises(state, tmp_path, kind):
    split(state, tmp_path, *SPLITS[kind])
    index = tmp_path / SPLITS[kind][1]
    document = json.loads(index.read_text())
    whole = json.dumps(document)
    document["weight_map"]["ghost"] = document["weight_map"]["lm_head.weight"]
    index.write_text(json.dumps(document))
    with pytest.raises(InvalidFile, match="'ghost', which none of its files holds"):
        open_checkpoint(tmp_path)
    for text in ("[]", "{}", '{"weight_map": {}}', '{"weight_map": 3}', "{", ""):
        index.write_text(text)
        with pytest.raises(InvalidFile):
            open_checkpoint(tmp_path)
    index.write_text(whole)
    shards = sorted(set(json.loads(whole)["weight_map"].values()))
    shutil.copy(tmp_path / shards[0], tmp_path / shards[1])
    with pytest.raises(InvalidFile, match="two of its files hold"):
        open_checkpoint(tmp_path)
    (tmp_path / shards[1]).unlink()
    with pytest.raises(UsageError, match="no such file"):
        open_checkpoint(tmp_path)


def test_what_is_preferred_and_what_is_refused(state, tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        open_checkpoint(tmp_path / "none.bin")
    (tmp_path / "none.txt").touch()
    with pytest.raises(UsageError, match=r"is not known to hold weights; the suffixes are \.safetensors"):
        open_checkpoint(tmp_path / "none.txt")
    (tmp_path / "none.txt").unlink()
    with pytest.raises(UsageError, match="holds no weights, nothing at all"):
        open_checkpoint(tmp_path)
    (tmp_path / "README.md").write_text("hello")
    with pytest.raises(UsageError, match=r"holds no weights, only README\.md"):
        open_checkpoint(tmp_path)
    torch.save(state, tmp_path / "a.pt")
    assert open_checkpoint(tmp_path).format == "torch"
    torch.save(state, tmp_path / "b.pt")
    with pytest.raises(UsageError, match=r"holds 2 checkpoints \(a\.pt, b\.pt\); give one"):
        open_checkpoint(tmp_path)
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert open_checkpoint(tmp_path).format == "torch"
    save_file({"x": torch.ones(1)}, tmp_path / "other.safetensors")
    save_file(state, tmp_path / "model.safetensors")
    same(open_checkpoint(tmp_path), state)
    with pytest.raises(UsageError, match="is no adapter and needs no base"):
        open_checkpoint(tmp_path, base=tmp_path)


def test_rows_are_checked(tmp_path):
    save_file({"x": torch.ones(3, 2), "s": torch.tensor(2.0), "e": torch.empty(0, 4)}, tmp_path / "x.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    for rows in ([2, 1], [1, 1], [3], [-1, 0]):
        with pytest.raises(UsageError, match="rows"):
            checkpoint.read("x", rows=rows)
    with pytest.raises(UsageError, match="no rows"):
        checkpoint.read("s", rows=[0])
    assert checkpoint.read("x", rows=[]).shape == (0, 2)
    assert checkpoint.read("e", rows=slice(None)).shape == (0, 4)
    assert checkpoint.read("s").item() == 2


@pytest.mark.parametrize(("package", "suffix"), [("gguf", ".gguf"), ("onnx", ".onnx")])
def test_a_package_that_is_not_installed(tmp_path, monkeypatch, package, suffix):
    monkeypatch.setitem(sys.modules, package, None)  # how Python itself says that there is none
    (tmp_path / f"net{suffix}").write_bytes(b"GGUF")
    with pytest.raises(MissingExtra, match=rf'pip install "whorl\[{package}\]"'):
        open_checkpoint(tmp_path)


def small(kind: str, folder: Path) -> Path:
    """A few numbers in a file of each format."""
    draw = torch.Generator().manual_seed(3)
    state = {f"blk.{k}.attn_q.weight": torch.randn(4, 32, generator=draw) for k in range(3)}
    path = folder / f"net.{kind.split('-')[0]}"
    if kind == "safetensors":
        save_file({name: value.half() for name, value in state.items()}, path)
    elif kind == "bin":
        torch.save(state, path)
    elif kind == "gguf":
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_head_count(2)
        writer.add_array("tokenizer.ggml.tokens", ["a", "b", "c"])
        for (name, value), packed in zip(state.items(), ("F32", "Q8_0", "Q4_0"), strict=True):
            kind_of = gguf.GGMLQuantizationType[packed]
            writer.add_tensor(name, gguf.quantize(value.numpy(), kind_of), raw_dtype=kind_of)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    else:
        tensors = [numpy_helper.from_array(value.numpy(), name) for name, value in state.items()]
        tensors.append(helper.make_tensor("listed", onnx.TensorProto.FLOAT, [2, 3], [1.0, 2, 3, 4, 5, 6]))
        tensors.append(helper.make_tensor("halves", onnx.TensorProto.FLOAT16, [3], np.ones(3, np.float16)))
        onnx.save(helper.make_model(helper.make_graph([], "g", [], [], tensors)), path)
    return path


SMALL = ["safetensors", "bin", "gguf", "onnx"]


def refusal(path: Path) -> str:
    """What is said of a damaged file; nothing where it holds finite numbers in the shape that it says."""
    try:
        checkpoint = open_checkpoint(path)
        for name, entry in checkpoint.entries.items():
            value = checkpoint.read(name)
            assert value.shape == entry.shape
            assert value.isfinite().all()
    except WhorlError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    return {kind: small(kind, folder).read_bytes() for kind in SMALL}


@pytest.mark.parametrize("kind", SMALL)
def test_a_file_that_was_cut_off(originals, tmp_path, kind):
    whole, path = originals[kind], tmp_path / f"net.{kind}"
    path.write_bytes(whole)
    assert open_checkpoint(path).entries
    for part in range(8):
        path.write_bytes(whole[: len(whole) * part // 8])
        with pytest.raises(InvalidFile) as error:
            open_checkpoint(path)
        assert str(error.value).isprintable()
        assert str(path) in str(error.value)


@pytest.mark.parametrize("kind", SMALL)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_flipped_bytes_are_refused_or_harmless(originals, kind, data):
    content = bytearray(originals[kind])
    header = data.draw(st.booleans())  # most of a small file is numbers, and most of the danger is before them
    most = len(content) - 1 if not header else min(len(content) - 1, 700)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, most))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"net.{kind}"
        path.write_bytes(content)
        said = refusal(path)
        assert not said or (said.isprintable() and len(said) < 1000)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none(tmp_path, kind, number):
    path, bad = tmp_path / f"net.{kind}", torch.tensor([[1.0, number], [3.0, 0]])
    if kind == "safetensors":
        save_file({"x": bad}, path)
    elif kind == "bin":
        torch.save({"x": bad}, path)
    elif kind == "gguf":
        writer = gguf.GGUFWriter(path, "gpt2")
        writer.add_tensor("x", bad.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    else:
        graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(bad.numpy(), "x")])
        onnx.save(helper.make_model(graph), path)
    checkpoint = open_checkpoint(path)
    with pytest.raises(InvalidFile, match="x holds NaN or an infinity"):
        checkpoint.read("x")
    with pytest.raises(InvalidFile, match="NaN or an infinity"):
        checkpoint.stored("x")


def test_pointers_of_git_lfs_are_told_wherever_they_stand(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (tmp_path / "net.onnx").write_text(pointer)
    for name in ("model", "shards"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "model.safetensors").write_text(pointer)
    index = {"weight_map": {"w": "model-00001-of-00001.safetensors"}}
    (tmp_path / "shards" / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "shards" / "model-00001-of-00001.safetensors").write_text(pointer)
    for place in ("net.onnx", "model", "shards"):
        with pytest.raises(InvalidFile, match=r"a pointer of Git LFS\. Fetch what it stands for: git lfs pull"):
            open_checkpoint(tmp_path / place)


def test_what_is_known_and_not_read_is_told_with_what_to_do(tmp_path):
    for name, words in (
        ("net.tflite", "holds TensorFlow Lite, which is not read here; make ONNX"),
        ("n.txt", "suffixes are"),
    ):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UsageError, match=words):
            open_checkpoint(tmp_path / name)


@pytest.mark.parametrize("suffix", ["pt", "bin", "safetensors", "gguf", "onnx"])
def test_what_a_link_leads_to_is_not_quoted(tmp_path, suffix):
    (tmp_path / "secret").write_text("hidden:password:0:0\nsecond:line\n")
    path = tmp_path / f"net.{suffix}"
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidFile, match="holds text and no weights") as error:
        open_checkpoint(path)
    assert "hidden" not in str(error.value)
    assert "password" not in str(error.value)
