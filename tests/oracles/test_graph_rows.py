"""Graphs as skl2onnx and onnxmltools write them: trees, lists of maps, classes in words, an input for each column."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_graphs import saved

from whorl.data import SOURCES
from whorl.errors import UsageError
from whorl.oracles.opening import open_oracle
from whorl.types import Access

INPUTS = torch.tensor([[0.0, 0.0, 1.0], [0.25, 1.0, 0.0], [1.0, 0.5, 1.0]])[:, None, None]
LOW, HIGH = torch.tensor([3.0, -2, 0]), torch.tensor([7.0, 2, 1])
UNITS = {"mean": (-LOW / (HIGH - LOW)).tolist(), "std": (1 / (HIGH - LOW)).tolist()}
WORDS = ["b", "c", "a"]
ABOUT = {"input_shape": (1, 1, 3), **UNITS}
FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def trees(labels: dict[str, list[str] | list[int]]) -> onnx.NodeProto:
    """Two leaves: rows whose last column is above 0 are of class 0 by 3/4, others of class 2."""
    nodes = {"nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [2, 0, 0]}
    nodes |= {"nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values": [0.0] * 3}
    nodes |= {"nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0]}
    leaves = {"class_treeids": [0] * 4, "class_nodeids": [1, 1, 2, 2], "class_ids": [2, 1, 0, 1]}
    return helper.make_node(
        "TreeEnsembleClassifier",
        ["rows"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        class_weights=[1.0, 0.0, 0.75, 0.25],
        post_transform="NONE",
        **nodes,
        **leaves,
        **labels,
    )


EXPECTED = torch.tensor([[0.75, 0.25, 0], [0, 0, 1], [0.75, 0.25, 0]])


def converted(
    inputs: dict[str, int], labels: dict[str, list[str] | list[int]], *, maps: bool = True, width: int = 1
) -> onnx.ModelProto:
    """A forest behind its columns, with the label and the list of maps in which skl2onnx ends."""
    casts = [helper.make_node("Cast", [name], [f"{name}f"], to=FLOAT) for name in inputs]
    nodes = [*casts, helper.make_node("Concat", [f"{name}f" for name in inputs], ["rows"], axis=1), trees(labels)]
    words = "classlabels_strings" in labels
    outputs = [helper.make_tensor_value_info("label", STRING if words else INT64, ["n"])]
    if maps:
        kind = {"classlabels_strings" if words else "classlabels_int64s": next(iter(labels.values()))}
        nodes.append(helper.make_node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", **kind))
        each = helper.make_map_type_proto(STRING if words else INT64, helper.make_tensor_type_proto(FLOAT, []))
        outputs.append(helper.make_value_info("maps", helper.make_sequence_type_proto(each)))
    else:
        outputs.append(helper.make_tensor_value_info("scores", FLOAT, ["n", 3]))
    given = [helper.make_tensor_value_info(name, kind, ["n", width]) for name, kind in inputs.items()]
    graph = helper.make_graph(nodes, "g", given, outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


NUMBERS: dict[str, list[str] | list[int]] = {"classlabels_int64s": [0, 1, 2]}
NAMED: dict[str, list[str] | list[int]] = {"classlabels_strings": WORDS}


@pytest.mark.parametrize("kind", [FLOAT, INT64, TensorProto.DOUBLE])
@pytest.mark.parametrize("maps", [True, False])
def test_trees_say_their_classes_and_give_probabilities(tmp_path: Path, kind: int, maps: bool) -> None:
    model = converted({"x": kind}, NUMBERS, maps=maps, width=3)
    oracle = open_oracle(saved(model, tmp_path), **ABOUT)
    assert (oracle.access, oracle.classes, oracle.class_names) == (Access.PROBABILITIES, 3, ())
    assert torch.equal(oracle.probabilities(INPUTS), EXPECTED)


def test_columns_that_are_inputs_of_their_own_are_asked_in_their_order(tmp_path: Path) -> None:
    oracle = open_oracle(saved(converted({"town": INT64, "rent": FLOAT, "age": INT64}, NUMBERS), tmp_path), **ABOUT)
    assert torch.equal(oracle.probabilities(INPUTS), EXPECTED)
    with pytest.raises(UsageError, match=r"takes \(None, 3\), and input shape \[1, 1, 4\]"):
        open_oracle(saved(converted({"a": FLOAT, "b": FLOAT, "c": FLOAT}, NUMBERS), tmp_path), input_shape=(1, 1, 4))


def test_columns_are_asked_by_name_where_units_name_them(tmp_path: Path) -> None:
    """The graph decides by its last input; in the table that is the first column."""
    lines = [f"{row % 2},{row},{row % 5},{'kn'[row % 3 == 0]}" for row in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["age,town,rent,class", *lines]))
    path = saved(converted({"town": FLOAT, "rent": FLOAT, "age": FLOAT}, NUMBERS), tmp_path)
    table = SOURCES.make(f"rows('{tmp_path / 't.csv'}')").load("victim")
    inputs = table.inputs()
    expected = torch.where(inputs[:, 0, 0, :1] > 0, EXPECTED[0], EXPECTED[1])
    oracle = open_oracle(path, input_shape=(1, 1, 3), units=table.expression)
    assert torch.equal(oracle.probabilities(inputs), expected)
    other = saved(converted({"x0": FLOAT, "x1": FLOAT, "x2": FLOAT}, NUMBERS), tmp_path)  # no names of the table
    assert not torch.equal(
        open_oracle(other, input_shape=(1, 1, 3), units=table.expression).probabilities(inputs), expected
    )


@pytest.mark.parametrize("maps", [True, False])
def test_classes_in_words_are_in_the_order_of_their_scores(tmp_path: Path, maps: bool) -> None:
    path = saved(converted({"x": FLOAT}, NAMED, maps=maps, width=3), tmp_path)
    assert open_oracle(path, **ABOUT).class_names == tuple(WORDS)
    sorted_words = open_oracle(path, class_names=["a", "b", "c"], **ABOUT)
    assert sorted_words.class_names == ("a", "b", "c")
    assert torch.equal(sorted_words.probabilities(INPUTS), EXPECTED[:, [2, 0, 1]])
    other = open_oracle(path, class_names=["x", "y", "z"], **ABOUT)  # the caller says what they are called
    assert other.class_names == ("x", "y", "z")
    assert torch.equal(other.probabilities(INPUTS), EXPECTED)


@pytest.mark.parametrize(
    ("inputs", "width", "message"),
    [
        ({"town": STRING}, 1, r"town tensor\(string\).*words, and whorl asks in numbers"),
        ({"town": STRING, "rent": FLOAT}, 1, "words, and whorl asks in numbers"),
        ({"rent": FLOAT, "town": FLOAT}, 2, "or one of \\[n, 1\\] for each column of a row"),
        ({f"c{number}": TensorProto.BOOL for number in range(9)}, 1, r"c7 .*, \.\.\.; one input of pictures or rows"),
    ],
)
def test_inputs_that_are_no_row(tmp_path: Path, inputs: dict[str, int], width: int, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        open_oracle(saved(converted(inputs, NUMBERS, width=width), tmp_path), **ABOUT)
    assert str(error.value).isprintable()
