"""ONNX graphs answer as the net they came from, and dangerous ones never reach onnxruntime."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_graphs import graph, pooled, saved, written
from torch import nn

from whorl.errors import InvalidFile, MissingExtra, OracleError, UsageError
from whorl.oracles.convention import InputConvention
from whorl.oracles.onnx import OnnxOracle
from whorl.storage import digest_file
from whorl.types import Access

SHAPE = (3, 6, 6)
INPUTS = torch.rand(9, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).eval()
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    batch = {0: torch.export.Dim("batch")}
    torch.onnx.export(net, (INPUTS[:2],), path, dynamo=True, dynamic_shapes=(batch,), external_data=False)
    return net, path


# Right answers


def test_logits_and_labels_are_those_of_the_net(exported: tuple[nn.Module, Path]) -> None:
    net, path = exported
    oracle = OnnxOracle(path, batch=4)
    with torch.inference_mode():
        expected = net(INPUTS)
    assert (oracle.input_shape, oracle.classes, oracle.access) == (SHAPE, 5, Access.LOGITS)
    torch.testing.assert_close(oracle.logits(INPUTS), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(oracle.labels(INPUTS), expected.argmax(1))
    assert oracle.queries_spent == 2 * len(INPUTS)
    assert oracle.digest == digest_file(path)


@pytest.mark.parametrize("access", [Access.LABELS, Access.PROBABILITIES, Access.WEIGHTS])
def test_access_is_lowered_and_never_raised(exported: tuple[nn.Module, Path], access: Access) -> None:
    net, path = exported
    oracle = OnnxOracle(path, access=access)
    assert oracle.access is min(access, Access.LOGITS)
    with torch.inference_mode():
        logits = net(INPUTS)
    expected = {Access.LABELS: logits.argmax(1), Access.PROBABILITIES: logits.softmax(1), Access.WEIGHTS: logits}
    torch.testing.assert_close(oracle.answers(INPUTS), expected[access], atol=1e-5, rtol=1e-5)


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    path = saved(pooled(shape=(4, 3, 2, 2), outputs=(("y", TensorProto.FLOAT, (4, 3)),)), tmp_path)
    inputs = torch.rand(6, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(OnnxOracle(path).logits(inputs), inputs.mean((2, 3)))


def test_layout_range_and_normalisation(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1, 2], keepdims=0)]
    path = saved(graph(nodes, shape=("n", 2, 4, 3)), tmp_path)
    convention = InputConvention((0, 255), "NHWC", (100.0, 50.0, 0.0), (10.0, 20.0, 30.0))
    inputs = torch.rand(3, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    oracle = OnnxOracle(path, convention=convention)
    assert oracle.input_shape == (3, 2, 4)
    expected = (inputs.mean((2, 3)) * 255 - torch.tensor([100.0, 50, 0])) / torch.tensor([10.0, 20, 30])
    torch.testing.assert_close(oracle.logits(inputs), expected, atol=1e-4, rtol=1e-5)


def test_pictures_as_bytes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f"], ["y"], axes=[2, 3], keepdims=0),
    ]
    path = saved(graph(nodes, dtype=TensorProto.UINT8), tmp_path)
    inputs = torch.randint(0, 256, (3, 3, 2, 2), generator=torch.Generator().manual_seed(0)) / 255
    answers = OnnxOracle(path, convention=InputConvention((0, 255))).logits(inputs)
    torch.testing.assert_close(answers, (inputs * 255).mean((2, 3)))


def test_graphs_of_labels_and_probabilities(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("ArgMax", ["m"], ["label"], axis=1, keepdims=0),
        helper.make_node("Softmax", ["m"], ["y"], axis=1),
    ]
    outputs = (("label", TensorProto.INT64, ("n",)), ("y", TensorProto.FLOAT, ("n", 3)))
    path = saved(graph(nodes, outputs=outputs), tmp_path)
    inputs = torch.rand(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    means = inputs.mean((2, 3))
    labels = OnnxOracle(path, output="labels", classes=3)
    assert labels.access is Access.LABELS
    assert torch.equal(labels.labels(inputs), means.argmax(1))
    soft = OnnxOracle(path, output="probabilities")
    assert soft.access is Access.PROBABILITIES
    torch.testing.assert_close(soft.answers(inputs), means.softmax(1))
    with pytest.raises(OracleError, match=r"outside 0..1"):
        OnnxOracle(path, output="labels", classes=2).labels(inputs)
    with pytest.raises(UsageError, match="give classes="):
        OnnxOracle(path, output="labels")


def test_nan_is_an_error_even_as_a_label(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("Log", ["m"], ["y"]),
    ]
    path = saved(graph(nodes), tmp_path)
    inputs = torch.zeros(1, 3, 2, 2)
    for access in (Access.LOGITS, Access.LABELS):
        with pytest.raises(OracleError, match=r"NaN|outside"):
            OnnxOracle(path, access=access, convention=InputConvention((-1, 1))).answers(inputs)


# Descriptions that do not fit


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (lambda: pooled(shape=("n", 3, "h", "w")), {}, "leaves its input open.*give input_shape="),
        (
            lambda: pooled(shape=("n", "c", 2, 2), outputs=(("y", TensorProto.FLOAT, ("n", "k")),)),
            {"input_shape": (3, 2, 2)},
            "give classes=",
        ),
        (pooled, {"input_shape": (1, 2, 2)}, "mend input_shape"),
        (pooled, {"convention": InputConvention(layout="NHWC"), "input_shape": (3, 2, 2)}, "mend input_shape"),
        (pooled, {"output": "labels"}, "none of which can be labels"),
        (pooled, {"output": "scores"}, "output must be one of"),
        (lambda: pooled(dtype=TensorProto.DOUBLE, outputs=(("y", TensorProto.DOUBLE, (3,)),)), {}, "none of which"),
        (lambda: graph([helper.make_node("Identity", ["x"], ["y"])], shape=("n",)), {}, "3 or 4 axes is needed"),
        (lambda: graph([helper.make_node("Identity", ["x"], ["y"])], shape=("n", 3)), {}, "leaves its input open"),
        (pooled, {"classes": 4}, "none of which can be the answer of 4 classes"),
    ],
)
def test_misfits(
    tmp_path: Path, model: Callable[[], onnx.ModelProto], options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        OnnxOracle(saved(model(), tmp_path), **options)  # pyright: ignore[reportArgumentType]


def test_a_graph_that_fails(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"])]
    path = saved(graph(nodes, {"s": np.array([7, 3])}), tmp_path)
    with pytest.raises(OracleError, match=r"x\.onnx can't be run") as error:
        OnnxOracle(path).logits(torch.zeros(2, 3, 2, 2))
    assert str(error.value).isprintable()


# Files


def test_memory_has_a_bound(tmp_path: Path) -> None:
    text = """g (float[n, 3, 2, 2] x) => (float[n, 3] y) <int64[1] size = {268435456}> {
        m = ReduceMean <axes = [2, 3], keepdims = 0> (x)  r = Shape <start = 0, end = 1> (x)  s = Mul (r, size)
        c = ConstantOfShape (s)  t = ReduceSum <keepdims = 0> (c)  y = Add (m, t) }"""
    code = """
import sys, torch
from whorl.errors import OracleError
from whorl.oracles import onnx
onnx.memory_limit = lambda: 1 << 28
for _ in range(2):
    try:
        print(onnx.OnnxOracle(sys.argv[1]).logits(torch.zeros(1, 3, 2, 2)))
    except OracleError as error:
        print(error)
"""
    run = [sys.executable, "-c", code, str(saved(written(text), tmp_path))]
    first, second = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    assert first == second
    assert first.startswith("x.onnx can't be run")


def test_what_is_not_onnx(tmp_path: Path) -> None:
    for content in (b"", b"\xff" * 100, b"<html>", saved(pooled(), tmp_path).read_bytes()[:40]):
        (tmp_path / "y.onnx").write_bytes(content)
        with pytest.raises(InvalidFile):
            OnnxOracle(tmp_path / "y.onnx")
    with pytest.raises(UsageError, match="no such file"):
        OnnxOracle(tmp_path / "z.onnx")


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r'pip install "whorl\[onnx\]"'):
        OnnxOracle(saved(pooled(), tmp_path))
