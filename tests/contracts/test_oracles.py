"""Every kind of oracle, and every wrapper, keeps the contract; the check finds an oracle that breaks it."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from whorl.oracles.base import Oracle
from whorl.oracles.endpoint import HttpSettings
from whorl.oracles.http import HttpOracle
from whorl.oracles.onnx import OnnxOracle
from whorl.oracles.recorded import Recorded
from whorl.oracles.sklearn import SklearnOracle
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import Budgeted, LabelsOnly, Noisy, Rounded, Temperature, TopK
from whorl.testing import check_oracle, tiny_data, tiny_victim
from whorl.types import Access

PROBABILITIES = (Access.LABELS, Access.PROBABILITIES)
SHAPE, CLASSES = (1, 8, 8), 10
WEIGHTS = torch.randn(64, CLASSES, generator=torch.Generator().manual_seed(3))


def test_torch():
    check_oracle(tiny_victim, levels=tuple(Access))


def test_sklearn():
    data = tiny_data("victim")
    forest = RandomForestClassifier(10, random_state=0).fit(data.inputs().flatten(1).numpy(), data.labels.numpy())
    check_oracle(
        lambda access: SklearnOracle(forest, input_shape=SHAPE, classes=CLASSES, access=access), levels=PROBABILITIES
    )


def test_onnx(tmp_path):
    onnx = pytest.importorskip("onnx")
    nodes = [
        onnx.helper.make_node("Flatten", ["x"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "weights"], ["y"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "linear",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ("n", *SHAPE))],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ("n", CLASSES))],
        [onnx.numpy_helper.from_array(WEIGHTS.numpy(), "weights")],
    )
    path = tmp_path / "linear.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    check_oracle(lambda access: OnnxOracle(path, access=access))


class Serving(BaseHTTPRequestHandler):
    """TensorFlow Serving's row format around a linear model; the path says what it answers."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        logits = torch.tensor(np.array(body["instances"], dtype=np.float32)).flatten(1) @ WEIGHTS
        answers = {"LABELS": logits.argmax(1), "PROBABILITIES": logits.softmax(1), "LOGITS": logits}
        kind = next(kind for kind in answers if kind in self.path)
        reply = json.dumps({"predictions": answers[kind].tolist()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


def test_http():
    with ThreadingHTTPServer(("127.0.0.1", 0), Serving) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"

        def make(access):
            # The model's name carries the level; one address would be one digest.
            settings = HttpSettings(url=url, protocol="tensorflow", model=access.name, batch=4, concurrency=3)
            return HttpOracle(settings, input_shape=SHAPE, classes=CLASSES, access=access)

        check_oracle(make)
        server.shutdown()


@pytest.mark.parametrize(
    ("wrap", "level"),
    [
        (LabelsOnly, Access.LABELS),
        (lambda inner: TopK(inner, 3), Access.PROBABILITIES),
        (lambda inner: Rounded(inner, 2), Access.PROBABILITIES),
        (lambda inner: Temperature(inner, 2.0), Access.PROBABILITIES),
        (lambda inner: Noisy(inner, 0.0, torch.Generator()), Access.PROBABILITIES),
        (lambda inner: Budgeted(inner, 1000), Access.LOGITS),
        (lambda inner: Rounded(Temperature(TopK(inner, 5), 2.0), 3), Access.PROBABILITIES),
    ],
    ids=["LabelsOnly", "TopK", "Rounded", "Temperature", "Noisy", "Budgeted", "three in a row"],
)
def test_wrapper(wrap, level):
    def make(access):
        wrapped = wrap(tiny_victim())
        return LabelsOnly(wrapped) if access is Access.LABELS else wrapped

    check_oracle(make, levels=tuple({Access.LABELS, level}))


def test_recorded(tmp_path):
    names = itertools.count()
    check_oracle(lambda access: Recorded(tiny_victim(access), tmp_path / f"{next(names)}.sqlite"))


def test_recorded_replay_keeps_contract(tmp_path):
    """Most of these answers come from a file that an earlier oracle wrote, each from a copy, as a file has one user."""
    names, made = itertools.count(), []
    inputs = torch.rand(10, *SHAPE, generator=torch.Generator().manual_seed(0))

    def make(access):
        source, copy = tmp_path / f"{access.name}.sqlite", tmp_path / f"{next(names)}.sqlite"
        if not source.exists():
            with closing(Recorded(tiny_victim(access), source)) as first:
                first.answers(inputs)
        shutil.copy(source, copy)
        made.append(Recorded(tiny_victim(access), copy))
        return made[-1]

    check_oracle(make)
    assert {oracle.replayed.given.total() for oracle in made} >= {10}


class Linear(Oracle):
    """A plug-in."""

    def __init__(self, access):
        super().__init__(access=access, input_shape=SHAPE, classes=CLASSES, name="linear", digest="linear")

    def scores(self, inputs):
        return inputs.flatten(1) @ WEIGHTS

    def _stream(self, inputs):
        logits = self.scores(inputs)
        levels = {Access.LABELS: logits.argmax(1), Access.PROBABILITIES: logits.softmax(1), Access.LOGITS: logits}
        yield torch.arange(len(inputs)), levels[self.access]


def test_plugin_passes():
    check_oracle(Linear)


class Backwards(Linear):
    def scores(self, inputs):
        return super().scores(inputs.flip(0))


class Batchy(Linear):
    """Normalises by the batch, as a module in training mode does."""

    def scores(self, inputs):
        return super().scores(inputs - inputs.mean(0, keepdim=True))


class Writes(Linear):
    def scores(self, inputs):
        return super().scores(inputs.mul_(0.5))


class Twice(Linear):
    """Answers each query twice, so that it is counted twice."""

    def _stream(self, inputs):
        yield from super()._stream(inputs)
        yield from super()._stream(inputs)


class Free(Linear):
    """Counts nothing."""

    def _stream(self, inputs):
        yield from super()._stream(inputs)
        self.queries_spent -= len(inputs)


class Generous(Linear):
    def differentiable(self):
        return self.scores


class Inverted(Linear):
    """Labels of another model than the logits'."""

    def scores(self, inputs):
        return super().scores(inputs) * (-1 if self.access is Access.LABELS else 1)


class Unscaled(Linear):
    def scores(self, inputs):
        return super().scores(inputs) / (2 if self.access is Access.PROBABILITIES else 1)


class Chance(Linear):
    def scores(self, inputs):
        return super().scores(inputs) + 1e-9 * torch.rand(())


class Nameless(Linear):
    def __init__(self, access):
        super().__init__(access)
        self.digest = str(id(self))


def ungranting(access):
    return Linear(Access.LOGITS)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Backwards, "in the order|one by one"),
        (Batchy, "one by one"),
        (Writes, "writes to the inputs"),
        (Twice, "counts 26 of 13"),
        (Free, "counts 0 of 13"),
        (Generous, "still gives GRADIENTS"),
        (Inverted, "not the class of the largest probability"),
        (Unscaled, "not the softmax"),
        (Chance, "global random state"),
        (Nameless, "differ in digest"),
        (ungranting, "asked to grant LABELS"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_broken_promises_are_named(make, says):
    with pytest.raises(AssertionError, match=says) as caught:
        check_oracle(make)
    assert "\n" not in str(caught.value)


class Borrowing(Linear):
    """Holds a module of somebody's and asks it as `TorchOracle` once did: one mode for all parts afterwards."""

    def __init__(self, access):
        super().__init__(access)
        self.module_ = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, CLASSES))
        self.module_.load_state_dict({"2.weight": WEIGHTS.T.clone(), "2.bias": torch.zeros(CLASSES)}, strict=False)

    def scores(self, inputs):
        training = self.module_.training
        with torch.no_grad():
            answers = self.module_.eval()(inputs)
        self.module_.train(training)
        return answers


class Watching(Borrowing):
    def scores(self, inputs):
        modes = {child: child.training for child in self.module_.modules()}
        self.module_[0].register_forward_hook(lambda *_: None)
        answers = super().scores(inputs)
        for child, mode in modes.items():
            child.training = mode
        return answers


class Thawing(Watching):
    def scores(self, inputs):
        self.module_.requires_grad_(True)
        return super().scores(inputs)


@pytest.mark.parametrize(
    ("make", "says"),
    [(Borrowing, "training mode changed: 1"), (Watching, "leaves hooks"), (Thawing, "leaves requires_grad")],
)
def test_a_borrowed_module_that_comes_back_changed_is_seen(make, says):
    with pytest.raises(AssertionError, match=says):
        check_oracle(make)


def test_torch_oracle_answers_alike_in_training_mode():
    """A borrowed module may be in training mode; its answers are those of evaluation mode."""
    oracle, inputs = tiny_victim(), tiny_data("test").inputs()
    expected = oracle.logits(inputs)
    oracle.module.train()
    assert torch.equal(oracle.logits(inputs), expected)
    assert oracle.module.training


@pytest.mark.parametrize("task", ["regression", "generation"])
def test_models_of_other_tasks(task):
    check_oracle(lambda access: tiny_victim(access, task=task))
    check_oracle(lambda access: tiny_victim(access, task=task), levels=(Access.LOGITS, Access.WEIGHTS))


class Guessing(TorchOracle):
    """A regression model that gives labels all the same."""

    def _require_classes(self, what):
        pass


def test_labels_of_a_model_without_classes_are_found():
    def make(access):
        known = tiny_victim(access, task="regression")
        shape, classes = known.input_shape, known.classes
        return Guessing(known._module, input_shape=shape, classes=classes, access=access, task="regression")

    with pytest.raises(AssertionError, match=r"\(regression\) grants LOGITS and still gives LABELS"):
        check_oracle(make)
