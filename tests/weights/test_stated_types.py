"""A type that a file states tells that a net was quantised, where its levels are too many to be seen."""

from __future__ import annotations

import gguf
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from safetensors.torch import save_file

from whorl.weights.comparison import compare


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    generator = torch.Generator().manual_seed(0)
    tensors = {f"{name}.weight": torch.randn(64, 64, generator=generator) for name in "abc"}
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    save_file(tensors, path)
    return path, tensors


def told(first, second):
    found = compare(first, second)
    assert found.decision == "related"
    return {each.name: each.told for each in found.operations}


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "Q5_1", "F16"])
def test_of_gguf(net, tmp_path, kind):
    path, tensors = net
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "other")
    for name, value in tensors.items():
        word = gguf.GGMLQuantizationType[kind]
        packed = value.half().numpy() if kind == "F16" else gguf.quantize(value.numpy(), word)
        writer.add_tensor(name, packed, raw_dtype=word)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if kind == "F16":
        assert told(path, tmp_path / "x.gguf").keys() == {"cast"}
        return
    for found, side in ((told(path, tmp_path / "x.gguf"), "B"), (told(tmp_path / "x.gguf", path), "A")):
        assert found == {"quantised": f"{side} is stored as {kind}"}
    assert told(tmp_path / "x.gguf", tmp_path / "x.gguf").keys() == {"identical"}


def test_of_onnx(net, tmp_path):
    path, tensors = net
    nodes, held = [], []
    for place, (name, value) in enumerate(tensors.items()):
        scale = float(value.abs().max()) / 127
        integers = (value / scale).round().to(torch.int8).T.numpy()
        held += [
            numpy_helper.from_array(np.ascontiguousarray(integers), f"{name}_quantized"),
            numpy_helper.from_array(np.float32(scale), f"{name}_scale"),
        ]
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_quantized", f"{name}_scale"], [f"w{place}"]))
        nodes.append(helper.make_node("MatMul", [f"x{place}", f"w{place}"], [f"x{place + 1}"]))
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [], held)), tmp_path / "x.onnx")
    assert told(path, tmp_path / "x.onnx") == {"quantised": "B is stored as INT8 scaled"}
