"""Initialisers of ONNX files, inside and outside of the file, and files that lie about them."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.readers.onnx import OnnxCheckpoint
from whorl.errors import InvalidFile, UsageError


def save(path, tensors, **about):
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], tensors, **about)), path)
    return path


@pytest.fixture(scope="module")
def mlp():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 5)).eval()


@pytest.mark.parametrize("external", [False, True])
def test_what_torch_exports(mlp, tmp_path, external):
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    path = tmp_path / "net.onnx"
    torch.onnx.export(mlp, (torch.zeros(1, 12),), path, dynamo=True, external_data=external, verbose=False)
    assert (tmp_path / "net.onnx.data").exists() == external
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.format == "onnx"
    for name, value in mlp.state_dict().items():
        assert torch.equal(checkpoint.read(name), value)
        assert torch.equal(checkpoint.read(name, rows=[0, 2, 3]), value[[0, 2, 3]])
    assert checkpoint.nbytes == sum(value.nbytes for value in mlp.state_dict().values())


WEIGHT = torch.arange(12.0).reshape(3, 4)


def graph(path, nodes, *tensors, functions=()):
    """A graph whose tensors are given as (name, numbers)."""
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [], held), functions=functions), path)
    return OnnxCheckpoint(path)


@pytest.mark.parametrize(
    ("turned", "nodes"),
    [
        (True, [helper.make_node("MatMul", ["x", "w"], ["y"])]),
        (True, [helper.make_node("Gemm", ["x", "w"], ["y"])]),
        (True, [helper.make_node("Cast", ["w"], ["c"], to=1), helper.make_node("MatMul", ["x", "c"], ["y"])]),
        (False, [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)]),
        (False, [helper.make_node("MatMul", ["w", "x"], ["y"])]),
        (False, [helper.make_node("Gather", ["w", "x"], ["y"]), helper.make_node("MatMul", ["y", "w"], ["z"])]),
        (False, [helper.make_node("Transpose", ["w"], ["t"]), helper.make_node("MatMul", ["x", "t"], ["y"])]),
        (False, []),
    ],
)
def test_a_matrix_is_handed_out_as_layers_hold_it(tmp_path, turned, nodes):
    checkpoint = graph(tmp_path / "x.onnx", nodes, ("w", WEIGHT))
    wanted = WEIGHT.T if turned else WEIGHT
    assert torch.equal(checkpoint.read("w"), wanted)
    assert torch.equal(checkpoint.read("w", rows=[0, 2]), wanted[[0, 2]])


def constant(name, value):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value), "inner"))


def test_constants_are_weights_wherever_they_stand(tmp_path):
    """In the graph, in a branch, in a function; shapes, axes and single numbers are none."""
    small = [constant("axes", np.array([1, 2])), constant("half", np.float32(0.5)), constant("few", np.int32([3, 4]))]
    branch = helper.make_graph([constant("b", WEIGHT + 1)], "then", [], [])
    other = helper.make_graph([constant("c", WEIGHT + 2)], "else", [], [])
    function = helper.make_function("own", "F", [], ["d"], [constant("d", WEIGHT + 3)], [helper.make_opsetid("", 13)])
    nodes = [
        constant("a", WEIGHT),
        helper.make_node("MatMul", ["x", "a"], ["y"]),
        helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=other),
        *small,
    ]
    checkpoint = graph(tmp_path / "x.onnx", nodes, functions=[function])
    assert list(checkpoint.entries) == ["a", "b", "c", "d"]
    assert torch.equal(checkpoint.read("a"), WEIGHT.T)
    assert all(torch.equal(checkpoint.read(name), WEIGHT + 1 + place) for place, name in enumerate("bcd"))


def test_branches_may_each_have_a_tensor_of_one_name(tmp_path):
    held = [helper.make_tensor("w", TensorProto.FLOAT, (2,), [place, 1.0]) for place in range(2)]
    one, two = (helper.make_graph([constant("b", WEIGHT + i)], "branch", [], [], [held[i]]) for i in range(2))
    checkpoint = graph(tmp_path / "x.onnx", [helper.make_node("If", ["x"], ["z"], then_branch=one, else_branch=two)])
    assert list(checkpoint.entries) == ["b", "b #2", "w", "w #2"]
    assert sorted(checkpoint.read(name)[0].item() for name in ("w", "w #2")) == [0, 1]
    assert not torch.equal(checkpoint.read("b"), checkpoint.read("b #2"))


def field(number, content):
    """A field of the wire with its length before it."""
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def test_branches_have_an_end(tmp_path):
    """Deeper than the package itself would read."""
    inner = field(5, b"")
    for _ in range(70):
        inner = field(1, field(5, field(6, inner)))
    (tmp_path / "x.onnx").write_bytes(field(7, inner))
    with pytest.raises(InvalidFile, match="more than 64 deep"):
        OnnxCheckpoint(tmp_path / "x.onnx")


SCALE, ZERO = np.float32(0.25), np.uint8(7)
NUMBERS = np.arange(12, dtype=np.uint8).reshape(3, 4)
MEANT = (torch.arange(12.0).reshape(3, 4) - 7) / 4


@pytest.mark.parametrize(
    "nodes",
    [
        [
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"]),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
        ],
        [
            helper.make_node("MatMulInteger", ["x", "q", "xz", "z"], ["i"]),
            helper.make_node("Cast", ["i"], ["f"], to=1),
            helper.make_node("Mul", ["xs", "s"], ["both"]),
            helper.make_node("Mul", ["f", "both"], ["y"]),
        ],
        [helper.make_node("QLinearMatMul", ["x", "xs", "xz", "q", "s", "z", "ys", "yz"], ["y"])],
        [helper.make_node("DynamicQuantizeMatMul", ["x", "q", "s", "z"], ["y"], domain="com.microsoft")],
    ],
)
def test_integers_are_the_numbers_that_they_stand_for(tmp_path, nodes):
    checkpoint = graph(tmp_path / "x.onnx", nodes, ("q", NUMBERS), ("s", SCALE), ("z", ZERO))
    assert list(checkpoint.entries) == ["q"]
    assert checkpoint.entries["q"].dtype == "UINT8 scaled"
    assert torch.equal(checkpoint.read("q"), MEANT.T)
    assert torch.equal(checkpoint.read("q", rows=[1, 3]), MEANT.T[[1, 3]])


@pytest.mark.parametrize(
    ("axis", "scale", "spread"),
    [
        (0, [1.0, 2.0, 4.0], [[1.0], [2.0], [4.0]]),
        (1, [1.0, 2.0, 4.0, 8.0], [[1.0, 2.0, 4.0, 8.0]]),
        (-1, [[1.0, 2.0], [4.0, 8.0], [16.0, 32.0]], [[1.0, 1, 2, 2], [4, 4, 8, 8], [16, 16, 32, 32]]),
        (1, [[0.5]], [[0.5]]),
    ],
)
def test_scales_of_rows_columns_and_blocks(tmp_path, axis, scale, spread):
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=axis), helper.make_node("Relu", ["w"], ["y"])]
    checkpoint = graph(tmp_path / "x.onnx", nodes, ("q", NUMBERS), ("s", np.float32(scale)))
    assert torch.equal(checkpoint.read("q"), torch.from_numpy(NUMBERS) * torch.tensor(spread))


def test_scales_may_be_constants_and_must_fit(tmp_path):
    use = helper.make_node("DequantizeLinear", ["q", "s"], ["w"])
    checkpoint = graph(tmp_path / "x.onnx", [constant("s", SCALE), use], ("q", NUMBERS))
    assert torch.equal(checkpoint.read("q"), torch.from_numpy(NUMBERS) / 4)
    with pytest.raises(InvalidFile, match=r"scales of the shape \[5\] do not fit"):
        graph(tmp_path / "y.onnx", [use], ("q", NUMBERS), ("s", np.ones(5, np.float32)))


def test_numbers_that_a_graph_only_rounds_stay_as_they_are(tmp_path):
    """Rounding to a grid in the graph itself scales numbers and not integers."""
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["d"]),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    assert torch.equal(graph(tmp_path / "x.onnx", nodes, ("w", WEIGHT), ("s", SCALE)).read("w"), WEIGHT.T)


def test_nodes_tell_what_exporters_leave_out(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "onnx::MatMul_31"], ["y"], name="/model/layers.0/q_proj/MatMul"),
        helper.make_node(
            "MatMul", ["x", "onnx::MatMul_32_quantized"], ["z"], name="/model/layers.1/q_proj/MatMul_quant"
        ),
        helper.make_node("MatMul", ["x", "onnx::MatMul_33"], ["u"], name="/twice/MatMul"),
        helper.make_node("MatMul", ["x", "onnx::MatMul_33"], ["v"], name="/twice/MatMul_1"),
        helper.make_node("MatMul", ["x", "named.weight"], ["t"], name="/other/MatMul"),
    ]
    names = ["onnx::MatMul_31", "onnx::MatMul_32_quantized", "onnx::MatMul_33", "named.weight"]
    held = graph(tmp_path / "x.onnx", nodes, *((name, WEIGHT + place) for place, name in enumerate(names)))
    layers = [f"model.layers.{layer}.q_proj.weight" for layer in (0, 1)]
    assert list(held.entries) == sorted([*layers, "onnx::MatMul_33", "named.weight"])
    assert torch.equal(held.read(layers[1]), (WEIGHT + 1).T)


KINDS = {
    "FLOAT": np.float32,
    "DOUBLE": np.float64,
    "FLOAT16": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


@pytest.mark.parametrize("raw", [False, True])
def test_every_type_as_bytes_and_as_a_list(tmp_path, raw):
    wanted = np.array([[0, 1, 1], [1, 0, 1]])
    tensors = []
    for word, kind in KINDS.items():
        value = wanted.astype(kind)
        content = value.tobytes() if raw else value.flatten().tolist()
        tensors.append(helper.make_tensor(word, TensorProto.DataType.Value(word), [2, 3], content, raw=raw))
    bits = torch.tensor(wanted).to(torch.bfloat16).view(torch.uint16).numpy()
    content = bits.tobytes() if raw else wanted.flatten().astype(float).tolist()
    tensors.append(helper.make_tensor("BFLOAT16", TensorProto.BFLOAT16, [2, 3], content, raw=raw))
    eighths = torch.tensor(wanted).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    content = eighths.tobytes() if raw else wanted.flatten().astype(float).tolist()
    tensors.append(helper.make_tensor("FLOAT8E4M3FN", TensorProto.FLOAT8E4M3FN, [2, 3], content, raw=raw))
    tensors.append(helper.make_tensor("number", TensorProto.FLOAT, [], [2.5]))
    tensors.append(helper.make_tensor("nothing", TensorProto.FLOAT, [0, 4], []))
    checkpoint = OnnxCheckpoint(save(tmp_path / "x.onnx", tensors, doc_string="words"))
    for word in (*KINDS, "BFLOAT16", "FLOAT8E4M3FN"):
        assert checkpoint.entries[word].dtype == word
        assert torch.equal(checkpoint.read(word), torch.tensor(wanted).float()), word
        assert torch.equal(checkpoint.read(word, rows=[1]), torch.tensor(wanted).float()[1:])
    assert checkpoint.stored("INT64").dtype == torch.int64
    assert checkpoint.read("number") == 2.5
    assert checkpoint.read("nothing").shape == (0, 4)


def outside(location, *, size=64, shape=(16,), name="w", **entries):
    """A tensor whose numbers lie in another file."""
    tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    about = {"location": location, "length": str(size), **{key: str(value) for key, value in entries.items()}}
    for key, value in about.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    return tensor


def test_numbers_in_another_file(tmp_path):
    (tmp_path / "x.data").write_bytes(np.arange(32, dtype=np.float32).tobytes())
    checkpoint = OnnxCheckpoint(save(tmp_path / "x.onnx", [outside("x.data", offset=64)]))
    assert torch.equal(checkpoint.read("w"), torch.arange(16.0, 32))
    assert checkpoint.bytes_read == 64


@pytest.mark.parametrize(
    "tensor",
    [
        outside("../x.data"),
        outside("/etc/passwd"),
        outside("a/x.data"),
        outside(""),
        outside("gone.data"),
        outside("x.data", offset=96),
        outside("x.data", offset=-32),
        outside("x.data", offset="many"),
        outside("x.data", size=1 << 60),
        outside("x.data", shape=(1 << 40, 1 << 20)),
        outside("x.data", shape=(-4, -4)),
        TensorProto(name="w", dims=(4,), data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL),
    ],
)
def test_numbers_that_lie_elsewhere(tmp_path, tensor):
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.data").write_bytes(bytes(128))
    (tmp_path / "folder" / "x.data").write_bytes(bytes(128))
    with pytest.raises((InvalidFile, UsageError)) as error:
        OnnxCheckpoint(save(tmp_path / "folder" / "x.onnx", [tensor]))
    assert str(error.value).isprintable()


def raw(shape, content, kind=TensorProto.FLOAT, name="w"):
    return TensorProto(name=name, dims=shape, data_type=kind, raw_data=content)


LIES = {
    "too few bytes": [raw((4, 4), bytes(60))],
    "too many bytes": [raw((4, 4), bytes(68))],
    "2^60 numbers": [raw((1 << 60,), bytes(64))],
    "a product beyond 64 bits": [raw((1 << 40, 1 << 40), bytes(64))],
    "negative axes": [raw((-4, -4), bytes(64))],
    "2^60 empty rows": [raw((1 << 60, 0), b"")],
    "2^60 listed numbers": [TensorProto(name="w", dims=(1 << 33,), data_type=1, float_data=[1.0])],
    "texts": [TensorProto(name="w", dims=(1,), data_type=TensorProto.STRING, string_data=[b"x"])],
    "no type": [raw((1,), bytes(4), 0)],
    "an unknown type": [raw((1,), bytes(4), 99)],
    "two of one name": [raw((1,), bytes(4)), raw((1,), bytes(4))],
    "a name of two lines": [raw((1,), bytes(4), name="a\nb")],
    "a long name": [raw((1,), bytes(4), name="a" * (2 << 20))],
    "nothing": [],
}


@pytest.mark.parametrize("lie", LIES)
def test_tensors_that_lie(tmp_path, lie):
    with pytest.raises(InvalidFile) as error:
        OnnxCheckpoint(save(tmp_path / "x.onnx", LIES[lie]))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700


def test_listed_numbers_that_are_fewer_than_the_shape(tmp_path):
    tensor = TensorProto(name="w", dims=(3,), data_type=TensorProto.FLOAT, float_data=[1.0])
    checkpoint = OnnxCheckpoint(save(tmp_path / "x.onnx", [tensor]))
    with pytest.raises(InvalidFile, match="'w' is damaged"):
        checkpoint.read("w")


def test_sparse_initialisers_are_told(tmp_path):
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("i", TensorProto.INT64, [1], [3]),
        [9],
    )
    path = save(tmp_path / "x.onnx", [raw((1,), bytes(4))], sparse_initializer=[sparse])
    with pytest.raises(InvalidFile, match="sparse initialisers"):
        OnnxCheckpoint(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 100, b"\xff" * 100, b"{}", b"\x3a\xff\xff\xff\xff\x7f", b"\x3b\x3c"]
)
def test_what_is_no_model(tmp_path, content):
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(InvalidFile):
        OnnxCheckpoint(tmp_path / "x.onnx")


def test_opening_reads_little_and_nothing_is_run(tmp_path):
    """A loop and an operator of nobody's domain do not matter to what only reads numbers."""
    nodes = [helper.make_node("Evil", [], ["y"], domain="evil"), helper.make_node("Loop", ["", ""], ["z"])]
    weights = np.zeros((1024, 1024), np.float32)
    graph = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph), tmp_path / "x.onnx")
    checkpoint = OnnxCheckpoint(tmp_path / "x.onnx")
    assert checkpoint.read("w", rows=[1000]).shape == (1, 1024)
    assert checkpoint.bytes_read == 4096
