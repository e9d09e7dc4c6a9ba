"""Of several outputs the answer is read where the graph tells which it is, and asked for where it does not."""

from pathlib import Path

import pytest
import torch
from onnx_graphs import saved, written
from torch.testing import assert_close

from whorl.errors import UsageError
from whorl.oracles.onnx import OnnxOracle

INPUTS = torch.rand(7, 3, 2, 2, generator=torch.Generator().manual_seed(0))
MEANS = INPUTS.mean((2, 3))
WEIGHTS = torch.tensor([[1.0, -2, 3], [-3, 2, 1], [2, 2, -4]])
LOGITS = MEANS @ WEIGHTS
BODY = (
    "<float[3, 3] w = {1, -2, 3, -3, 2, 1, 2, 2, -4}, float[3, 2] v = {1, 2, 3, 4, 5, 6}, float[3] b = {0, 0, 0},"
    " int64[1] axis = {1}> { m = ReduceMean <axes = [2, 3], keepdims = 0> (x) "
)


def model(outputs: str, nodes: str, tmp_path: Path) -> Path:
    return saved(written(f"g (float[n, 3, 2, 2] x) => ({outputs}) {BODY} {nodes} }}"), tmp_path)


HEAD = {
    "an embedding of the same width first": ("float[n, 3] a, float[n, 3] b0", "a = Relu (m)  b0 = MatMul (a, w)"),
    "the bias counts as a weight": ("float[n, 3] a, float[n, 3] z", "a = MatMul (m, w)  z = Add (a, b)"),
    "the same twice": ("float[n, 3] z, float[n, 3] y", "z = MatMul (m, w)  y = Identity (z)"),
    "the probabilities first": ("float[n, 3] p, float[n, 3] z", "z = MatMul (m, w)  p = Softmax (z)"),
    "labels first": (
        "int64[n] l, float[n, 3] z",
        "z = MatMul (m, w)  l = ArgMax <axis = 1, keepdims = 0> (z)",
    ),
    "a confidence first": (
        "float[n, 1] c, float[n, 3] z",
        "z = MatMul (m, w)  p = Softmax (z)  c = ReduceMax <axes = [1]> (p)",
    ),
    "the sorted first": (
        "float[n, 3] s, int64[n, 3] i, float[n, 3] z",
        "z = MatMul (m, w)  k = Shape <start = 1> (z)  s, i = TopK (z, k)",
    ),
    "an embedding in a normalised form": (
        "float[n, 3] a, float[n, 3] u, float[n, 3] z",
        "a = Relu (m)  l = ReduceL2 <axes = [1]> (a)  u = Div (a, l)  z = MatMul (a, w)",
    ),
    "a map of features first": ("float[n, 3, 2, 2] f, float[n, 3] z", "f = Relu (x)  z = MatMul (m, w)"),
    "a constant first": ("int64[4] c, float[n, 3] z", "c = Shape (x)  z = MatMul (m, w)"),
}


@pytest.mark.parametrize(("outputs", "nodes"), HEAD.values(), ids=HEAD)
@pytest.mark.parametrize("classes", [3, None])
def test_the_head_is_read(tmp_path: Path, outputs: str, nodes: str, classes: int | None) -> None:
    assert_close(OnnxOracle(model(outputs, nodes, tmp_path), classes=classes).logits(INPUTS), LOGITS)


def test_the_number_of_classes_decides(tmp_path: Path) -> None:
    path = model("float[n, 2] a, float[n, 3] z", "a = MatMul (m, v)  z = MatMul (m, w)", tmp_path)
    assert_close(OnnxOracle(path, classes=3).logits(INPUTS), LOGITS)
    assert OnnxOracle(path, classes=2).logits(INPUTS).shape == (7, 2)
    with pytest.raises(UsageError, match=r"a and z could each be the answer\. Name one, as in output_name=a"):
        OnnxOracle(path)


TWO_HEADS = {
    "two heads of logits": "a = MatMul (m, w)  z = Gemm (m, w)",
    "one head soft": "s = Gemm (m, w)  a = Softmax (s)  z = MatMul (m, w)",
    "probabilities that go on": "s = Gemm (m, w)  a = Softmax (s)  z = MatMul (a, w)",
}


@pytest.mark.parametrize("nodes", TWO_HEADS.values(), ids=TWO_HEADS)
def test_two_heads_are_asked_about(tmp_path: Path, nodes: str) -> None:
    path = model("float[n, 3] a, float[n, 3] z", nodes, tmp_path)
    with pytest.raises(UsageError, match=r"a and z could each be the answer\. Name one, as in output_name=a") as error:
        OnnxOracle(path, classes=3)
    assert "a (" in str(error.value)
    assert OnnxOracle(path, output_name="z").logits(INPUTS).shape == (7, 3)


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    path = model("float[n, 3] z, int64[4] c", "z = MatMul (m, w)  c = Shape (x)", tmp_path)
    with pytest.raises(UsageError, match=r"no output 'y'; it gives z \(scores"):
        OnnxOracle(path, output_name="y")
    with pytest.raises(UsageError, match="none of which can be the answer of 3 classes"):
        OnnxOracle(path, output_name="c", classes=3)
    names = [f"a{i}" for i in range(70)]
    many = ", ".join(f"float[n, 3] {name}" for name in names)
    path = model(many, "  ".join(f"{name} = MatMul (m, w)" for name in names), tmp_path)
    with pytest.raises(UsageError, match="70 outputs; at most 64"):
        OnnxOracle(path)
