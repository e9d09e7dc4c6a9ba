"""Every reader of weights keeps the contract, and a careless one is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load, save_file

from whorl.checkpoints.checkpoint import Checkpoint, TensorEntry
from whorl.testing import check_reader


def safetensors(tensors, folder):
    save_file(dict(tensors), folder / "model.safetensors")
    return folder / "model.safetensors"


def torch_file(suffix):
    def write(tensors, folder):
        torch.save(dict(tensors), folder / f"model{suffix}")
        return folder / f"model{suffix}"

    return write


def gguf(tensors, folder):
    gguf = pytest.importorskip("gguf")
    path = folder / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in tensors.items():
        writer.add_tensor(name, value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def onnx_file(tensors, folder):
    onnx = pytest.importorskip("onnx")
    named = [onnx.numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in tensors.items()]
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1,))
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [value],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1,))],
        named,
    )
    onnx.save(onnx.helper.make_model(graph), folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize(
    "write",
    [safetensors, torch_file(".pt"), torch_file(".pth"), torch_file(".bin"), gguf, onnx_file],
    ids=["safetensors", "pt", "pth", "bin", "gguf", "onnx"],
)
def test_reader_keeps_contract(write):
    check_reader(write)


class Careless(Checkpoint):
    """Reads the whole file into memory and trusts it."""

    format = "careless"

    def __init__(self, path):
        self.tensors = load(path.read_bytes())
        entries = {name: TensorEntry(tuple(value.shape), "F32", 0) for name, value in self.tensors.items()}
        super().__init__(path, entries, {})

    def _stored(self, name, rows):
        self.bytes_read += self.tensors[name].nbytes
        return self.tensors[name] if rows is None else self.tensors[name][list(rows)]


class Rounding(Careless):
    def _stored(self, name, rows):
        return super()._stored(name, rows).half().float()


class Uncounted(Careless):
    def _stored(self, name, rows):
        return self.tensors[name] if rows is None else self.tensors[name][list(rows)]


class Confused(Careless):
    def _stored(self, name, rows):
        return super()._stored(name, rows) if rows is None else super()._stored(name, [0] * len(rows))


@pytest.mark.parametrize(
    ("reader", "told"),
    [
        (Careless, "ends in SafetensorError"),
        (Rounding, "with a difference of"),
        (Uncounted, "does not count the bytes"),
        (Confused, "reads other rows"),
    ],
)
def test_a_careless_reader_is_found(reader, told):
    with pytest.raises(AssertionError, match=told):
        check_reader(safetensors, open_file=reader)


def test_a_lossy_format_says_how_much_it_loses():
    with pytest.raises(AssertionError, match="ends in"):  # past the comparison, where the careless reader fails
        check_reader(safetensors, open_file=Rounding, tolerance=1e-3)
