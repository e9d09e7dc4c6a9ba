"""A graph's labels and its scores name one class, in the order of the classes that the graph itself states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx_graphs import saved, written
from test_graph_rows import ABOUT, FLOAT, converted

import whorl
from whorl.data.base import Dataset
from whorl.errors import InvalidFile, OracleError, UsageError
from whorl.oracles.graph_classes import Classes
from whorl.oracles.onnx import OnnxOracle
from whorl.oracles.opening import open_oracle
from whorl.types import Access

INPUTS = torch.rand(40, 1, 1, 3, generator=torch.Generator().manual_seed(0))
SHAPE = (1, 1, 3)
LABEL = "int64[n] label, float[n, 3] p"
TWO = "int64[n] label, float[n, 2] p"
WORDS = "string[n] label, float[n, 3] p"
CHOSEN = "a = ArgMax <axis = 1, keepdims = 0> (p)  "
TABLE = "e = ai.onnx.ml.ArrayFeatureExtractor (t, a)  label = Reshape (e, flat)"
SOFT = "p = Softmax (z)  "
PAIR = "q = Slice (p0, zero, two, one)  s = ReduceSum <keepdims = 1> (q, one)  p = Div (q, s)  "


def path_of(tail: str, outputs: str, tmp_path: Path, table: str = "int64[3] t = {2, 0, 1}") -> Path:
    """A linear net to logits ``z``, and what follows them."""
    text = (
        f"g (float[n, 3] x) => ({outputs}) <float[3, 3] w = {{9, -5, 2, -8, 3, 6, 1, 4, -7}}, int64[1] zero = {{0}}, "
        f"int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] flat = {{-1}}, int64[2] column = {{-1, 1}}, "
        f"float tenth = {{0.1}}, "
        f'string[1] yes = {{"yes"}}, string[1] no = {{"no"}}, {table}> {{ z = MatMul (x, w)  {tail} }}'
    )
    return saved(written(text), tmp_path)


def told(path: Path, inputs: torch.Tensor = INPUTS) -> dict[str, Any]:
    """What onnxruntime itself answers, by output."""
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": inputs.flatten(1).numpy()}), strict=True))


STATED = {
    "a table of the label": (TABLE, "int64[3] t = {2, 0, 1}"),
    "a gathered table": ("label = Gather (t, a)", "int64[3] t = {2, 0, 1}"),
    "a table behind casts": (
        "b = Reshape (a, column)  c = ai.onnx.ml.ArrayFeatureExtractor (t, b)  d = Cast <to = 7> (c)  "
        "label = Reshape (d, flat)",
        "int32[3] t = {2, 0, 1}",
    ),
    "a table of a table": ("b = Gather (t, a)  label = Gather (t, b)", "int64[3] t = {1, 2, 0}"),
    "an encoder": (
        "label = ai.onnx.ml.LabelEncoder <keys_int64s = [0, 1, 2], values_int64s = [2, 0, 1]> (a)",
        "float u = {0}",
    ),
}


@pytest.mark.parametrize(("tail", "table"), STATED.values(), ids=STATED)
def test_columns_stand_in_the_order_of_the_classes_that_the_label_states(tmp_path: Path, tail: str, table: str) -> None:
    path = path_of(SOFT + CHOSEN + tail, LABEL, tmp_path, table)
    oracle, said = open_oracle(path, input_shape=SHAPE), told(path)
    assert (oracle.access, oracle.class_names) == (Access.PROBABILITIES, ())
    assert np.array_equal(oracle.probabilities(INPUTS).numpy()[:, [2, 0, 1]], said["p"])
    assert oracle.labels(INPUTS).tolist() == said["label"].tolist()
    assert open_oracle(path, input_shape=SHAPE, access="labels").labels(INPUTS).tolist() == said["label"].tolist()
    named = open_oracle(path, input_shape=SHAPE, output_name="label", classes=3)
    assert named.labels(INPUTS).tolist() == said["label"].tolist()


@pytest.mark.parametrize("maps", [True, False])
def test_columns_of_trees_stand_in_the_order_of_their_classes(tmp_path: Path, maps: bool) -> None:
    path = saved(converted({"x": FLOAT}, {"classlabels_int64s": [2, 0, 1]}, maps=maps, width=3), tmp_path)
    oracle, said = open_oracle(path, **ABOUT), told(path, INPUTS - 0.5)
    probabilities = [[row[each] for each in range(3)] for row in said["maps"]] if maps else said["scores"][:, [1, 2, 0]]
    plain = open_oracle(path, input_shape=SHAPE, range=[-0.5, 0.5])
    assert np.array_equal(plain.probabilities(INPUTS).numpy(), np.array(probabilities, dtype=np.float32))
    assert plain.labels(INPUTS).tolist() == said["label"].tolist()
    assert set(oracle.labels(INPUTS).tolist()) <= {0, 1, 2}


CONTRARY = {
    "the least": "label = ArgMin <axis = 1, keepdims = 0> (p)",
    "the least in a table": "a = ArgMin <axis = 1, keepdims = 0> (p)  " + TABLE,
    "columns moved under their label": "a = ArgMax <axis = 1, keepdims = 0> (z)  label = Identity (a)",
}


@pytest.mark.parametrize("tail", CONTRARY.values(), ids=CONTRARY)
def test_a_label_that_contradicts_the_scores_is_refused(tmp_path: Path, tail: str) -> None:
    soft = "m = Gather <axis = 1> (z, t)  p = Softmax (m)  " if "Identity" in tail else SOFT
    path = path_of(soft + tail, LABEL, tmp_path)
    with pytest.raises(OracleError, match=r"its output label says .* where p is largest at class") as error:
        open_oracle(path, input_shape=SHAPE).answers(INPUTS)
    assert "--set output_name=label" in str(error.value)
    assert str(error.value).isprintable()
    for name in ("label", "p"):  # what the message says to type
        oracle = open_oracle(path, input_shape=SHAPE, classes=3, output_name=name)
        expected = told(path)[name]
        if name == "label":
            assert oracle.labels(INPUTS).tolist() == expected.tolist()
        else:
            assert np.array_equal(oracle.probabilities(INPUTS).numpy(), expected)


def test_lists_of_classes_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    maps = "y = ai.onnx.ml.ZipMap <classlabels_int64s = [1, 0, 2]> (p)"
    path = path_of(SOFT + CHOSEN + TABLE + "  " + maps, "int64[n] label, seq(map(int64, float)) y", tmp_path)
    with pytest.raises(UsageError, match=r"two orders: y as 1, 0, 2, label as 2, 0, 1\. Say which is read"):
        open_oracle(path, input_shape=SHAPE)
    oracle = open_oracle(path, input_shape=SHAPE, output_name="y")
    expected = np.array([[row[each] for each in range(3)] for row in told(path)["y"]], np.float32)
    assert np.array_equal(oracle.probabilities(INPUTS).numpy(), expected)


def test_every_batch_is_held_against_its_labels(tmp_path: Path) -> None:
    """The label turns where the first number of a row is above .9, which no row of the first batch is."""
    tail = (
        "f = Slice (x, zero, one, one)  c = ReduceMax <axes = [1], keepdims = 0> (f)  "
        "e = Greater (c, tenth)  b = ArgMin <axis = 1, keepdims = 0> (p)  label = Where (e, b, a)"
    )
    path = path_of(SOFT + CHOSEN + tail, LABEL, tmp_path)
    inputs = INPUTS.clone()
    inputs[:, 0, 0, 0] = 0.1
    inputs[-1, 0, 0, 0] = 0.9
    oracle = OnnxOracle(path, input_shape=SHAPE, classes=3, batch=8)
    oracle.answers(inputs[:-1])
    with pytest.raises(OracleError, match="contradicts itself"):
        oracle.answers(inputs)


def test_ties_are_no_contradiction(tmp_path: Path) -> None:
    last = "a = ArgMax <axis = 1, keepdims = 0, select_last_index = 1> (p)  label = Identity (a)"
    inputs = INPUTS.clone()
    inputs[:20] = 0
    path = path_of(SOFT + last, LABEL, tmp_path)
    oracle, said = open_oracle(path, input_shape=SHAPE), told(path, inputs)
    assert set(said["label"][:20]) == {2}
    assert np.array_equal(oracle.probabilities(inputs).numpy(), said["p"])


def test_scores_as_near_as_rounding_takes_them_are_a_tie_and_no_others() -> None:
    classes = Classes((), 2, 0, words=False, names=(), model="x")
    near = torch.tensor([[0.5, 0.5 + 2.0**-24]])
    classes.hold("p", near, "label", np.array([0]), ())
    for rows in (torch.tensor([[0.5, 0.5001]]), torch.tensor([[1e6, 1e6 + 1]])):
        with pytest.raises(OracleError, match="contradicts itself"):
            classes.hold("p", rows, "label", np.array([0]), ())


def test_of_a_threshold_the_served_label_counts_where_labels_are_granted(tmp_path: Path) -> None:
    soft = "p0 = Softmax (z)  " + PAIR
    decided = "r = Slice (p, one, two, one)  d = Greater (r, tenth)  c = Cast <to = 7> (d)  label = Squeeze (c, one)"
    path = path_of(soft + decided, TWO, tmp_path)
    said = told(path)
    assert (said["label"] != said["p"].argmax(1)).any()
    assert open_oracle(path, input_shape=SHAPE, access="labels", classes=2).labels(INPUTS).tolist() == (
        said["label"].tolist()
    )
    with pytest.raises(OracleError, match="contradicts itself"):
        open_oracle(path, input_shape=SHAPE).probabilities(INPUTS)
    scores = open_oracle(path, input_shape=SHAPE, output_name="p")
    assert np.array_equal(scores.probabilities(INPUTS).numpy(), said["p"])
    assert open_oracle(path, input_shape=SHAPE, output_name="p", access="labels").labels(INPUTS).tolist() == (
        said["p"].argmax(1).tolist()
    )


def test_a_flag_is_no_label_of_three_classes(tmp_path: Path) -> None:
    flag = "m = ReduceMax <axes = [1], keepdims = 0> (p)  sure = Greater (m, tenth)"
    path = path_of(SOFT + flag, "bool[n] sure, float[n, 3] p", tmp_path)
    for access in (None, "labels"):
        oracle = open_oracle(path, input_shape=SHAPE, access=access)
        assert oracle.labels(INPUTS).tolist() == told(path)["p"].argmax(1).tolist()


@pytest.mark.parametrize(
    ("numbers", "names"), [("1, 2, 3", ("1", "2", "3")), ("7, -1, 2", ("-1", "2", "7")), ("2, 1, 0", ())]
)
def test_numbers_of_classes_are_their_names_where_they_are_not_counted_from_zero(
    tmp_path: Path, numbers: str, names: tuple[str, ...]
) -> None:
    path = path_of(SOFT + CHOSEN + TABLE, LABEL, tmp_path, f"int64[3] t = {{{numbers}}}")
    oracle, said = open_oracle(path, input_shape=SHAPE), told(path)
    assert oracle.class_names == names
    labels = oracle.labels(INPUTS).tolist()
    assert [int(names[each]) if names else each for each in labels] == said["label"].tolist()
    if numbers == "1, 2, 3":
        counted = open_oracle(path, input_shape=SHAPE, first_label=1)
        assert (counted.class_names, counted.labels(INPUTS).tolist()) == ((), labels)


WORDED = {
    "a table": (CHOSEN + TABLE, 'string[3] t = {"b", "c", "a"}'),
    "an encoder": (
        CHOSEN + 'label = ai.onnx.ml.LabelEncoder <keys_int64s = [0, 1, 2], values_strings = ["b", "c", "a"]> (a)',
        "float u = {0}",
    ),
}


@pytest.mark.parametrize(("tail", "table"), WORDED.values(), ids=WORDED)
@pytest.mark.parametrize("alone", [True, False])
def test_words_alone_are_labels(tmp_path: Path, tail: str, table: str, alone: bool) -> None:
    path = path_of(SOFT + tail, "string[n] label" if alone else WORDS, tmp_path, table)
    said = told(path)
    for access in ("labels", None):
        oracle = open_oracle(path, input_shape=SHAPE, access=access)
        assert (oracle.access is Access.LABELS) == (alone or access is not None)
        assert oracle.class_names == ("b", "c", "a")
        assert [oracle.class_names[each] for each in oracle.labels(INPUTS).tolist()] == said["label"].tolist()
    ordered = open_oracle(path, input_shape=SHAPE, class_names=["a", "b", "c"])
    assert ["abc"[each] for each in ordered.labels(INPUTS).tolist()] == said["label"].tolist()


def test_words_that_nobody_lists_are_asked_for(tmp_path: Path) -> None:
    decided = "r = ReduceMax <axes = [1], keepdims = 0> (p)  h = ReduceMean <keepdims = 0> (r)  d = Greater (r, h)  "
    path = path_of(SOFT + decided + "label = Where (d, yes, no)", "string[n] label", tmp_path)
    with pytest.raises(UsageError, match=r"gives words and does not list them: give them, as in --set 'class_names="):
        open_oracle(path, input_shape=SHAPE, classes=2)
    oracle = open_oracle(path, input_shape=SHAPE, class_names=["no", "yes"])
    assert [("no", "yes")[each] for each in oracle.labels(INPUTS).tolist()] == told(path)["label"].tolist()
    with pytest.raises(OracleError, match="gave the label 'no'; its classes are ja, yes"):
        open_oracle(path, input_shape=SHAPE, class_names=["ja", "yes"]).labels(INPUTS)


def test_a_graph_that_gives_words_is_verified_by_their_names(tmp_path: Path) -> None:
    tail = SOFT + CHOSEN + TABLE
    victim = path_of(tail, WORDS, tmp_path, 'string[3] t = {"c", "a", "b"}')
    victim = victim.rename(tmp_path / "victim.onnx")
    images = torch.rand(80, 1, 1, 3, generator=torch.Generator().manual_seed(1))
    labels = open_oracle(victim, input_shape=SHAPE, class_names=["a", "b", "c"]).labels(images)
    data = Dataset(images, labels, ("a", "b", "c"), "rows")
    fingerprint = whorl.extract(victim, data=data, scheme="random", budget=40, input_shape=SHAPE)
    assert fingerprint.class_names == ("a", "b", "c")
    suspect = path_of(
        "m = Gather <axis = 1> (z, swapped)  p = Softmax (m)  " + CHOSEN + TABLE,
        "string[n] label",
        tmp_path,
        'string[3] t = {"b", "c", "a"}, int64[3] swapped = {2, 0, 1}',
    )
    assert told(suspect)["label"].tolist() == told(victim)["label"].tolist()
    assert whorl.verify(fingerprint, suspect, cache=tmp_path).similarity == 1
    foreign = path_of(tail, "string[n] label", tmp_path, 'string[3] t = {"un", "deux", "trois"}')
    with pytest.raises(UsageError, match=r"has no class 'a'.*un, deux, trois.*--set class_names=\[") as error:
        whorl.verify(fingerprint, foreign, cache=tmp_path)
    assert str(error.value).isprintable()
    assert whorl.verify(fingerprint, foreign, class_names=["c", "a", "b"], cache=tmp_path).similarity == 1


def test_a_class_that_is_stated_twice(tmp_path: Path) -> None:
    path = path_of(SOFT + CHOSEN + TABLE, LABEL, tmp_path, "int64[3] t = {0, 1, 1}")
    with pytest.raises((UsageError, InvalidFile), match="states a class twice: 0, 1, 1"):
        open_oracle(path, input_shape=SHAPE)
