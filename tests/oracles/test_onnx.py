"""ONNX graphs answer as the net they came from, and dangerous ones never reach onnxruntime."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from whorl.errors import InvalidFile, MissingExtra, OracleError, UsageError
from whorl.oracles import onnx as oracle_module
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


def graph(
    nodes: list[onnx.NodeProto],
    tensors: dict[str, np.ndarray] | None = None,
    *,
    shape: tuple[str | int, ...] = ("n", 3, 2, 2),
    dtype: int = TensorProto.FLOAT,
    outputs: tuple[tuple[str, int, tuple[str | int, ...]], ...] = (("y", TensorProto.FLOAT, ("n", 3)),),
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """A graph from ``x`` to ``outputs``."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info(*output) for output in outputs],
        [numpy_helper.from_array(value, name) for name, value in (tensors or {}).items()],
    )
    opsets = [helper.make_opsetid(domain, 1 if domain else 17) for domain in ("", *domains)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


def pooled(**changes: object) -> onnx.ModelProto:
    """The mean of each of three channels."""
    return graph([helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)], **changes)  # pyright: ignore


def saved(model: onnx.ModelProto, tmp_path: Path) -> Path:
    path = tmp_path / "x.onnx"
    path.write_bytes(model.SerializeToString())
    return path


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
        (lambda: graph([helper.make_node("Identity", ["x"], ["y"])], shape=("n", 3)), {}, "4 axes is needed"),
    ],
)
def test_misfits(
    tmp_path: Path, model: Callable[[], onnx.ModelProto], options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        OnnxOracle(saved(model(), tmp_path), **options)  # pyright: ignore[reportArgumentType]


def test_a_wrong_number_of_classes_and_a_graph_that_fails(tmp_path: Path) -> None:
    path = saved(pooled(), tmp_path)
    with pytest.raises(OracleError, match=r"\[2, 4\] are needed"):
        OnnxOracle(path, classes=4).logits(torch.zeros(2, 3, 2, 2))
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"])]
    path = saved(graph(nodes, {"s": np.array([7, 3])}), tmp_path)
    with pytest.raises(OracleError, match=r"x\.onnx can't be run") as error:
        OnnxOracle(path).logits(torch.zeros(2, 3, 2, 2))
    assert str(error.value).isprintable()


# Danger


def external() -> onnx.ModelProto:
    model = graph([helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.zeros((1, 3, 1, 1), np.float32)})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return model


def external_in_a_branch() -> onnx.ModelProto:
    inner = external().graph.initializer[0]
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["b"], value=inner)],
        "branch",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
    )
    condition = numpy_helper.from_array(np.array(True), "c")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=condition),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    return graph(nodes)


def looping() -> onnx.ModelProto:
    body = helper.make_graph([], "body", [], [])
    return graph([helper.make_node("Loop", ["", ""], ["y"], body=body)])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (external, "keeps weights in another file"),
        (external_in_a_branch, "keeps weights in another file"),
        (lambda: graph([helper.make_node("Evil", ["x"], ["y"], domain="a.b")], domains=("a.b",)), "a.b:Evil"),
        (looping, "a loop that may never end"),
        (lambda: graph([helper.make_node("NoSuchOperator", ["x"], ["y"])]), "refused by onnxruntime"),
    ],
)
def test_dangerous_graphs(tmp_path: Path, model: Callable[[], onnx.ModelProto], message: str) -> None:
    with pytest.raises(InvalidFile, match=message) as error:
        OnnxOracle(saved(model(), tmp_path))
    assert str(error.value).isprintable()


def test_functions_of_the_file_itself_are_not_custom_operators(tmp_path: Path) -> None:
    node = helper.make_node("ReduceMean", ["a"], ["b"], axes=[2, 3], keepdims=0)
    function = helper.make_function("own", "Pool", ["a"], ["b"], [node], [helper.make_opsetid("", 17)])
    model = graph([helper.make_node("Pool", ["x"], ["y"], domain="own")], domains=("own",))
    model.functions.append(function)
    inputs = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(OnnxOracle(saved(model, tmp_path)).logits(inputs), inputs.mean((2, 3)))
    model.functions[0].node[0].domain = "elsewhere"
    with pytest.raises(InvalidFile, match="elsewhere:ReduceMean"):
        OnnxOracle(saved(model, tmp_path))


def test_too_many_nodes_and_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(11)]
    path = saved(graph([helper.make_node("Relu", ["x"], ["v0"]), *chain]), tmp_path)
    monkeypatch.setattr(oracle_module, "MAX_NODES", 10)
    with pytest.raises(InvalidFile, match="more than 10 nodes"):
        OnnxOracle(path)
    monkeypatch.setattr(oracle_module, "MAX_BYTES", 100)
    with pytest.raises(InvalidFile, match="at most 100 are read"):
        OnnxOracle(path)


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
