"""What a graph makes at its end is what its answer is taken for, however it is written."""

from pathlib import Path

import onnx
import pytest
import torch
from onnx_graphs import saved, written
from torch.testing import assert_close

from whorl.errors import OracleError, UsageError
from whorl.oracles.onnx import OnnxOracle
from whorl.types import Access

INPUTS = torch.rand(7, 3, 2, 2, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.linspace(-4, 4, 9).reshape(3, 3).roll(1, 0)
LOGITS = INPUTS.mean((2, 3)) @ WEIGHTS
FUNCTION = '<domain: "own", opset_import: ["" : 17]> Net (a) => (b) {{ b = {} (a) }}'


def ending(tail: str, answer: str = "float[n, 3] y", more: str = "") -> onnx.ModelProto:
    """A linear net to logits ``z``, and what follows them."""
    weights = ", ".join(map(str, WEIGHTS.flatten().tolist()))
    return written(
        f"g (float[n, 3, 2, 2] x) => ({answer}) <float[3, 3] w = {{{weights}}}, float one = {{1}}, float half = {{0.5}}"
        ", float eps = {0.0000001}, float thousand = {1000}, float[2] offon = {0, 1}, int64[2] rows = {-1, 3}"
        ", int64[1] last = {1}, int64[1] two = {2}, int64 start = {0}, int64 step = {1}, int64 k = {3}>"
        f"{{ m = ReduceMean <axes = [2, 3], keepdims = 0> (x)  z = MatMul (m, w)  {tail} }}{more}"
    )


EXPONENTIALS = "t = ReduceMax <axes = [1]> (z)  d = Sub (z, t)  e = Exp (d)  s = ReduceSum (e, last)  "
ROWS = {
    "softmax": "y = Softmax (z)",
    "on logits of an unusual name": "embedding = Identity (z)  y = Softmax (embedding)",
    "moved about": "p = Softmax (z)  u = Unsqueeze (p, last)  f = Flatten (u)  y = Reshape (f, rows)",
    "cast": "p = Softmax (z)  h = Cast <to = 10> (p)  y = Cast <to = 1> (h)",
    "rounded": "p = Softmax (z)  a = Mul (p, thousand)  r = Round (a)  y = Div (r, thousand)",
    "clipped": "p = Softmax (z)  y = Clip (p, eps, one)",
    "averaged": "d = Identity (z)  p = Softmax (z)  q = Softmax (d)  a = Add (p, q)  y = Mul (a, half)",
    "by hand": EXPONENTIALS + "y = Div (e, s)",
    "by hand with an epsilon": EXPONENTIALS + "a = Add (s, eps)  y = Div (e, a)",
    "by hand with a reciprocal": EXPONENTIALS + "i = Reciprocal (s)  y = Mul (i, e)",
    "exponential of a log softmax": "l = LogSoftmax (z)  y = Exp (l)",
    "exponential of logits less their log sum": "s = ReduceLogSumExp <axes = [1]> (z)  l = Sub (z, s)  y = Exp (l)",
    "the largest put back": (
        "p = Softmax (z)  v, i = TopK (p, two)  o = Sub (p, p)  c = Greater (o, one)  b = Cast <to = 1> (c)"
        "  y = ScatterElements <axis = 1> (b, i, v)"
    ),
    "under its largest": (
        "p = Softmax (z)  v, i = TopK (p, two)  t = ReduceMin <axes = [1]> (v)  c = GreaterOrEqual (p, t)"
        "  b = Cast <to = 1> (c)  y = Mul (p, b)"
    ),
}


@pytest.mark.parametrize("tail", ROWS.values(), ids=ROWS)
def test_no_softmax_is_taken_of_a_softmax(tmp_path: Path, tail: str) -> None:
    oracle = OnnxOracle(saved(ending(tail), tmp_path))
    assert oracle.access is Access.PROBABILITIES
    expected = LOGITS.softmax(1)
    if "TopK" in tail:
        expected = expected.where(expected > expected.min(1, keepdim=True).values, 0)
    assert_close(oracle.probabilities(INPUTS), expected, atol=2e-3, rtol=0)
    assert torch.equal(oracle.labels(INPUTS), LOGITS.argmax(1))


@pytest.mark.parametrize(
    "tail",
    [
        "y = Identity (z)",
        "y = LogSoftmax (z)",
        "p = Softmax (z)  y = Log (p)",
        EXPONENTIALS + "l = Log (s)  y = Sub (d, l)",
        "s = ReduceLogSumExp <axes = [1]> (z)  y = Sub (z, s)",
        # A sigmoid inside of a net says nothing of its end.
        "p = Sigmoid (z)  q = Mul (p, z)  a = Div (q, p)  i = EyeLike (w)  y = MatMul (a, i)",
    ],
)
def test_logits_and_their_kin(tmp_path: Path, tail: str) -> None:
    oracle = OnnxOracle(saved(ending(tail), tmp_path))
    assert oracle.access is Access.LOGITS
    assert_close(oracle.probabilities(INPUTS), LOGITS.softmax(1))


@pytest.mark.parametrize(
    "tail",
    [
        "y = Sigmoid (z)",
        "n = Neg (z)  e = Exp (n)  a = Add (one, e)  y = Div (one, a)",
        "n = Neg (z)  e = Exp (n)  a = Add (e, one)  y = Reciprocal (a)",
    ],
)
def test_independent_columns_stay_as_they_are(tmp_path: Path, tail: str) -> None:
    oracle = OnnxOracle(saved(ending(tail), tmp_path))
    assert oracle.access is Access.PROBABILITIES
    assert_close(oracle.probabilities(INPUTS), LOGITS.sigmoid())


def test_an_activation_by_hand_is_no_sigmoid(tmp_path: Path) -> None:
    tail = "n = Neg (z)  e = Exp (n)  a = Add (one, e)  y = Div (z, a)"
    oracle = OnnxOracle(saved(ending(tail), tmp_path))
    assert_close(oracle.logits(INPUTS), LOGITS * LOGITS.sigmoid())


LABELS = {
    "argmax": ("y = ArgMax <axis = 1, keepdims = 0> (z)", "int64[n] y"),
    "a column of them": ("y = ArgMax <axis = 1> (z)", "int64[n, 1] y"),
    "as floats": ("a = ArgMax <axis = 1, keepdims = 0> (z)  y = Cast <to = 1> (a)", "float[n] y"),
    "the best of the largest": ("v, i = TopK (z, last)  y = Identity (i)", "int64[n, 1] y"),
    "one-hot rows": ("a = ArgMax <axis = 1, keepdims = 0> (z)  y = OneHot (a, k, offon)", "float[n, 3] y"),
    "rows of a hardmax": ("y = Hardmax (z)", "float[n, 3] y"),
    "rows of a comparison": (
        "a = ArgMax <axis = 1> (z)  r = Range (start, k, step)  c = Equal (a, r)  y = Cast <to = 1> (c)",
        "float[n, 3] y",
    ),
    "truth values": ("t = ReduceMax <axes = [1]> (z)  y = Equal (z, t)", "bool[n, 3] y"),
}


@pytest.mark.parametrize(("tail", "answer"), LABELS.values(), ids=LABELS)
def test_labels_in_every_form(tmp_path: Path, tail: str, answer: str) -> None:
    oracle = OnnxOracle(saved(ending(tail, answer), tmp_path), classes=3)
    assert oracle.access is Access.LABELS
    assert torch.equal(oracle.labels(INPUTS), LOGITS.argmax(1))


def test_rows_that_mark_two_classes_are_no_labels(tmp_path: Path) -> None:
    path = saved(ending("c = Less (z, thousand)  y = Cast <to = 1> (c)"), tmp_path)
    with pytest.raises(OracleError, match="do not mark one of 3 classes"):
        OnnxOracle(path).labels(INPUTS)


def test_labels_from_one_are_shifted_only_when_told(tmp_path: Path) -> None:
    path = saved(ending("a = ArgMax <axis = 1, keepdims = 0> (z)  y = Add (a, step)", "int64[n] y"), tmp_path)
    assert torch.equal(OnnxOracle(path, classes=3, first_label=1).labels(INPUTS), LOGITS.argmax(1))
    some = INPUTS[LOGITS.argmax(1) == 2]
    assert len(some)
    with pytest.raises(OracleError, match=r"outside 0\.\.2: 3.*set first_label=1"):
        OnnxOracle(path, classes=3).labels(some)
    with pytest.raises(OracleError, match=r"outside 6\.\.8: 3"):
        OnnxOracle(path, classes=3, first_label=6).labels(some)


@pytest.mark.parametrize(
    ("tail", "answer"),
    [
        ("y = Sigmoid (q)", "float[n, 1] y"),
        ("p = Sigmoid (q)  y = Squeeze (p, last)", "float[n] y"),
        ("y = Identity (q)", "float[n, 1] y"),
        ("p = Sigmoid (q)  y = Log (p)", "float[n, 1] y"),
        ("p = Sigmoid (q)  r = Sub (one, p)  y = Concat <axis = 1> (r, p)", "float[n, 2] y"),
    ],
)
def test_one_column_is_two_classes(tmp_path: Path, tail: str, answer: str) -> None:
    path = saved(ending("q = Slice (z, last, two, last)  " + tail, answer), tmp_path)
    right = LOGITS[:, 1].sigmoid()
    assert_close(OnnxOracle(path, classes=2).probabilities(INPUTS), torch.stack([1 - right, right], 1))
    assert torch.equal(OnnxOracle(path, classes=2, access=Access.LABELS).labels(INPUTS), (LOGITS[:, 1] > 0).long())


def test_what_is_said_and_what_is_made_must_agree(tmp_path: Path) -> None:
    soft = saved(ending("y = Softmax (z)"), tmp_path)
    with pytest.raises(UsageError, match="none of which can be logits: its nodes make probabilities"):
        OnnxOracle(soft, output="logits")
    assert OnnxOracle(soft, output="probabilities").access is Access.PROBABILITIES
    path = saved(ending("y = Identity (z)"), tmp_path)
    with pytest.raises(OracleError, match="for a probability"):
        OnnxOracle(path, output="probabilities").answers(INPUTS)
    percent = saved(ending("p = Softmax (z)  y = Mul (p, thousand)"), tmp_path)
    with pytest.raises(OracleError, match=r"for a probability\. Export it without what follows"):
        OnnxOracle(percent).answers(INPUTS)
    assert torch.equal(OnnxOracle(percent, access=Access.LABELS).labels(INPUTS), LOGITS.argmax(1))


def test_functions_are_read_by_what_they_do(tmp_path: Path) -> None:
    called = "y = own.Net (z)"
    soft = OnnxOracle(saved(ending(called, more=FUNCTION.format("Softmax")), tmp_path))
    assert_close(soft.probabilities(INPUTS), LOGITS.softmax(1))
    plain = OnnxOracle(saved(ending(called, more=FUNCTION.format("Identity")), tmp_path))
    assert_close(plain.logits(INPUTS), LOGITS)


def test_lists_of_maps_are_read_as_the_rows_they_are_made_of(tmp_path: Path) -> None:
    tail = "label = ArgMax <axis = 1, keepdims = 0> (z)  p = Softmax (z)  y = ai.onnx.ml.ZipMap <classlabels_int64s ="
    model = ending(tail + " [0, 1, 2]> (p)", "int64[n] label, seq(map(int64, float)) y")
    assert_close(OnnxOracle(saved(model, tmp_path)).probabilities(INPUTS), LOGITS.softmax(1))


@pytest.mark.parametrize(
    ("shape", "tail"),
    [
        ("float[n, 3, 1, 1] y", "u = Unsqueeze (z, two)  t = Add (two, last)  y = Unsqueeze (u, t)"),
        ("float[n, 1, 3] y", "y = Unsqueeze (z, last)"),
        ("float[1, n, 3] y", "o = Sub (last, last)  y = Unsqueeze (z, o)"),
    ],
)
def test_axes_of_size_one_are_dropped(tmp_path: Path, shape: str, tail: str) -> None:
    assert_close(OnnxOracle(saved(ending(tail, shape), tmp_path)).logits(INPUTS), LOGITS)
