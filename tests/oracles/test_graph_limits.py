"""Dangerous ONNX graphs never reach onnxruntime."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_graphs import graph, pooled, saved, written

from whorl.errors import InvalidFile, UsageError
from whorl.oracles import graph_limits
from whorl.oracles import onnx as oracle_module
from whorl.oracles.onnx import OnnxOracle


def looping() -> onnx.ModelProto:
    body = helper.make_graph([], "body", [], [])
    return graph([helper.make_node("Loop", ["", ""], ["y"], body=body)])


@pytest.mark.parametrize(
    ("model", "message"),
    [
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
    monkeypatch.setattr(graph_limits, "MAX_NODES", 10)
    with pytest.raises(InvalidFile, match="more than 10 nodes"):
        OnnxOracle(path)
    monkeypatch.setattr(oracle_module, "MAX_BYTES", 100)
    with pytest.raises(InvalidFile, match="at most 100 are read"):
        OnnxOracle(path)


def doubling(levels: int, last: str = "b = Relu(a)") -> onnx.ModelProto:
    """Functions that each call the one before twice: 2 ** levels nodes once they are written out."""
    functions = [f'<domain: "own", opset_import: ["" : 17, "own" : 1]> f0 (a) => (b) {{ {last} }}']
    functions += [
        f'<domain: "own", opset_import: ["" : 17, "own" : 1]> f{i} (a) => (b) '
        f"{{ c = own.f{i - 1}(a) b = own.f{i - 1}(c) }}"
        for i in range(1, levels + 1)
    ]
    nodes = f"y = own.f{levels}(m)"
    return written(
        "g (float[n, 3, 2, 2] x) => (float[n, 3] y) { m = ReduceMean <axes = [2, 3], keepdims = 0> (x) "
        + nodes
        + "}"
        + "".join(functions)
    )


def test_functions_are_counted_written_out(tmp_path: Path) -> None:
    inputs = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(OnnxOracle(saved(doubling(3), tmp_path)).logits(inputs), inputs.mean((2, 3)))
    for levels in (16, 40):
        with pytest.raises(InvalidFile, match="more than 100,000 nodes, its functions written out"):
            OnnxOracle(saved(doubling(levels), tmp_path))


def test_functions_that_call_themselves_or_lie_too_deep(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="calls itself"):
        OnnxOracle(saved(doubling(2, last="b = own.f2(a)"), tmp_path))
    chain = doubling(70)
    for function in chain.functions[1:]:
        function.node[1].domain, function.node[1].op_type = "", "Relu"
    with pytest.raises(InvalidFile, match="more than 64 deep"):
        OnnxOracle(saved(chain, tmp_path))
    twice = doubling(1)
    twice.functions.append(twice.functions[0])
    with pytest.raises(InvalidFile, match="defines a function twice"):
        OnnxOracle(saved(twice, tmp_path))


@pytest.mark.parametrize("operator", ["SequenceMap", "BeamSearch", "Loop"])
def test_bodies_that_run_more_than_once(tmp_path: Path, operator: str) -> None:
    body = helper.make_graph([], "body", [], [])
    domain = "com.microsoft" if operator == "BeamSearch" else ""
    model = graph([helper.make_node(operator, ["x"], ["y"], body=body, domain=domain)])
    with pytest.raises(InvalidFile, match=f"the operator {operator}, a loop"):
        OnnxOracle(saved(model, tmp_path))


def test_a_graph_is_not_handed_to_a_function(tmp_path: Path) -> None:
    model = doubling(1)
    attribute = model.functions[0].node[0].attribute.add()
    attribute.name, attribute.ref_attr_name, attribute.type = "body", "body", onnx.AttributeProto.GRAPH
    with pytest.raises(InvalidFile, match="hands a graph to a function"):
        OnnxOracle(saved(model, tmp_path))


def test_a_batch_that_a_graph_fixes_is_bounded(tmp_path: Path) -> None:
    model = pooled(shape=(2**31, 3, 2, 2), outputs=(("y", TensorProto.FLOAT, (2**31, 3)),))
    with pytest.raises(UsageError, match=r"batches of 2,147,483,648 pictures .* a free or a smaller batch"):
        OnnxOracle(saved(model, tmp_path))


@pytest.mark.parametrize("name", [b"\x01x", b"\x01y", b"\x01n", b"\x04axes", b"\x0aReduceMean"])
def test_a_name_that_is_no_text_is_refused_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: bytes
) -> None:
    data = pooled().SerializeToString()
    assert name in data
    (tmp_path / "x.onnx").write_bytes(data.replace(name, name[:-1] + b"\xff"))
    with pytest.raises(InvalidFile, match="refused by onnxruntime"):
        OnnxOracle(tmp_path / "x.onnx")
    assert capfd.readouterr() == ("", "")
