"""ONNX weights of four bits and fewer: what is read is what onnxruntime computes with."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from whorl.checkpoints.readers.onnx import OnnxCheckpoint
from whorl.errors import InvalidFile

ROWS = 24


def written(path, node, tensors, size):
    """A graph that multiplies by a matrix, or gathers its rows: with ones on the diagonal it gives the matrix."""
    kind = TensorProto.INT64 if node[-1].op_type == "GatherBlockQuantized" else TensorProto.FLOAT
    x = helper.make_tensor_value_info("x", kind, [None, size][kind == TensorProto.INT64 :])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])
    graph = helper.make_graph(node, "g", [x], [y], tensors)
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), path)
    return path


def computed(path, inputs):
    (found,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": inputs})
    return torch.from_numpy(np.asarray(found))


def drawn(*shape, most=256, kind=np.uint8):
    return np.random.default_rng(0).integers(0, most, shape).astype(kind)


def named(*tensors):
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors]


@pytest.mark.parametrize(
    ("bits", "columns", "block", "zeros"),
    [
        (bits, columns, block, zeros)
        for bits, columns, block in ((4, 64, 32), (4, 40, 16), (8, 64, 32), (2, 64, 32))
        for zeros in ("none", "packed", "floats")
        if (bits, zeros) != (8, "floats")  # which onnxruntime does not compute
    ],
)
def test_a_product_of_few_bits_is_read_as_it_is_computed(tmp_path, bits, columns, block, zeros):
    """Also where the last block is not full, and its zero point stands in half a byte."""
    blocks = -(-columns // block)
    held = [("w_Q4", drawn(ROWS, blocks, block * bits // 8))]
    held.append(("s", np.random.default_rng(1).normal(size=(ROWS, blocks)).astype(np.float32)))
    if zeros == "packed":
        held.append(("z", drawn(ROWS, -(-blocks * bits // 8))))
    elif zeros == "floats":
        held.append(("z", np.random.default_rng(2).normal(8, 1, (ROWS, blocks)).astype(np.float32)))
    about = {"K": columns, "N": ROWS, "bits": bits, "block_size": block}
    names = ["x", *(name for name, _ in held)]
    node = helper.make_node("MatMulNBits", names, ["y"], domain="com.microsoft", **about)
    path = written(tmp_path / "x.onnx", [node], named(*held), columns)
    checkpoint = OnnxCheckpoint(path)
    assert list(checkpoint.entries) == ["w"]
    assert checkpoint.entries["w"].dtype == f"UINT{bits} scaled"
    assert checkpoint.entries["w"].quantised
    wanted = computed(path, np.eye(columns, dtype=np.float32)).T
    assert torch.allclose(checkpoint.read("w"), wanted, atol=1e-5)
    assert torch.equal(checkpoint.read("w", [1, 5]), checkpoint.read("w")[[1, 5]])


@pytest.mark.parametrize("kind", ["INT4", "UINT4"])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(("inputs", "block"), [(64, 32), (40, 16)])
def test_integers_of_four_bits_are_scaled_by_blocks(tmp_path, kind, zeros, inputs, block):
    """A matrix [in, out], as ONNX itself quantises it."""
    low, high = (-8, 8) if kind == "INT4" else (0, 16)
    blocks = -(-inputs // block)
    numbers = np.random.default_rng(0).integers(low, high, (inputs, ROWS))
    scales = np.random.default_rng(1).normal(size=(blocks, ROWS)).astype(np.float32)
    of = getattr(TensorProto, kind)
    held = [helper.make_tensor("q", of, numbers.shape, numbers.flatten().tolist()), *named(("s", scales))]
    if zeros:
        middle = np.random.default_rng(2).integers(low, high, scales.shape)
        held.append(helper.make_tensor("z", of, middle.shape, middle.flatten().tolist()))
    nodes = [
        helper.make_node("DequantizeLinear", [each.name for each in held], ["w"], axis=0, block_size=block),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    path = written(tmp_path / "x.onnx", nodes, held, inputs)
    wanted = computed(path, np.eye(inputs, dtype=np.float32)).T
    whole = onnx.load(path)
    for each in whole.graph.initializer:  # once as a list of numbers, once as bytes
        if each.int32_data:
            each.raw_data = np.array(each.int32_data, np.uint8).tobytes()
            del each.int32_data[:]
    onnx.save(whole, tmp_path / "raw.onnx")
    for place in (path, tmp_path / "raw.onnx"):
        checkpoint = OnnxCheckpoint(place)
        assert list(checkpoint.entries) == ["q"]
        assert (checkpoint.entries["q"].shape, checkpoint.entries["q"].dtype) == ((ROWS, inputs), f"{kind} scaled")
        assert torch.allclose(checkpoint.read("q"), wanted, atol=1e-5)
        assert torch.equal(checkpoint.read("q", [0, 7]), checkpoint.read("q")[[0, 7]])


@pytest.mark.parametrize("packed", [False, True])
def test_rows_of_a_table_of_four_bits(tmp_path, packed):
    numbers = np.random.default_rng(0).integers(0, 16, (ROWS, 64))
    pairs = (numbers[:, ::2] | numbers[:, 1::2] << 4).astype(np.uint8)
    scales = np.random.default_rng(1).normal(size=(ROWS, 4)).astype(np.float32)
    listed = helper.make_tensor("q", TensorProto.UINT4, numbers.shape, numbers.flatten().tolist())
    held = [*(named(("q", pairs)) if packed else [listed]), *named(("s", scales))]
    about = {"block_size": 16, "gather_axis": 0, "quantize_axis": 1, **({"bits": 4} if packed else {})}
    node = helper.make_node("GatherBlockQuantized", ["q", "x", "s"], ["y"], domain="com.microsoft", **about)
    path = written(tmp_path / "x.onnx", [node], held, None)
    checkpoint = OnnxCheckpoint(path)
    assert checkpoint.entries["q"].dtype == "UINT4 scaled"
    assert torch.allclose(checkpoint.read("q"), computed(path, np.arange(ROWS)), atol=1e-5)


def test_columns_that_name_their_blocks(tmp_path):
    order = drawn(64, most=2, kind=np.int32)
    held = [("w", drawn(ROWS, 2, 16)), ("s", np.ones((ROWS, 2), np.float32) * [[1, 2]]), ("g", order)]
    about = {"K": 64, "N": ROWS, "bits": 4, "block_size": 32}
    node = helper.make_node("MatMulNBits", ["x", "w", "s", "", "g"], ["y"], domain="com.microsoft", **about)
    held[1] = ("s", held[1][1].astype(np.float32))
    found = OnnxCheckpoint(written(tmp_path / "x.onnx", [node], named(*held), 64)).read("w")
    numbers = np.stack([held[0][1] & 15, held[0][1] >> 4], -1).reshape(ROWS, 64).astype(np.float32)
    assert torch.equal(found, torch.from_numpy((numbers - 8) * (1 + order)))
    held[2] = ("g", order + 2)
    checkpoint = OnnxCheckpoint(written(tmp_path / "y.onnx", [node], named(*held), 64))
    with pytest.raises(InvalidFile, match="blocks of 64 columns"):
        checkpoint.read("w")


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"K": 64, "bits": 3, "block_size": 32}, "numbers of 3 bits"),
        ({"K": 65, "bits": 4, "block_size": 32}, "65 columns in rows of 64"),
        ({"K": 64, "bits": 4, "block_size": 16}, "do not fit"),
        ({"K": 64, "bits": 4}, "blocks of 0 columns"),
        ({"K": -1, "bits": 4, "block_size": 32}, "columns"),
    ],
)
def test_products_that_make_no_sense_end_in_one_line(tmp_path, about, words):
    held = named(("w", drawn(ROWS, 2, 16)), ("s", np.ones((ROWS, 2), np.float32)))
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", N=ROWS, **about)
    with pytest.raises(InvalidFile, match=words):
        OnnxCheckpoint(written(tmp_path / "x.onnx", [node], held, 64))
