"""Each protocol: what is sent, what an answer means, and that nothing else passes for an answer."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hostile_server import NAMES, HostileServer, truth
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_oracle import CLASSES, SHAPE, pictures
from PIL import Image
from torch.testing import assert_close

from whorl.errors import OracleError
from whorl.oracles.convention import InputConvention
from whorl.oracles.formats import AnswerFormat, InputFormat
from whorl.oracles.http import HttpOracle, HttpSettings
from whorl.oracles.open_inference import OpenInference
from whorl.oracles.protocols import HuggingFace, Template, TensorFlowServing
from whorl.types import Access

INPUTS = (pictures(6) * 255).round() / 255  # what a PNG can hold
PLAIN = InputFormat()
LEVELS = {"labels": Access.LABELS, "probabilities": Access.PROBABILITIES, "logits": Access.LOGITS}
LABELS, PROBABILITIES, LOGITS = (AnswerFormat(access, CLASSES) for access in LEVELS.values())
ROWS = [[1.0, 2, 3, 4], [5, 6, 7, 8]]
BODY = '{"pictures": {{ images | tojson }}, "model": "{{ model }}"}'


def template(body='{"x": {{ inputs }}}', answer="y", inputs=PLAIN, outputs=LOGITS):
    return Template(body, answer, inputs, outputs, "m")


def through(server, *, access=Access.LOGITS, class_names=(), path="", **given):
    chosen = HttpSettings(url=server.url + path, batch=2, concurrency=2, **given)
    return HttpOracle(chosen, input_shape=SHAPE, classes=CLASSES, access=access, class_names=class_names)


def test_v2_sends_tensors_and_reads_them():
    with HostileServer() as server:
        assert_close(through(server, model="m").logits(INPUTS), truth(INPUTS))
        assert set(server.paths) == {"/v2/models/m/infer"}


def test_tensorflow_sends_instances_and_reads_predictions():
    with HostileServer() as server:
        assert_close(through(server, protocol="tensorflow", model="m/versions/2").logits(INPUTS), truth(INPUTS))
        assert set(server.paths) == {"/v1/models/m/versions/2:predict"}
    with HostileServer(always="labels") as server:
        endpoint = through(server, protocol="tensorflow", model="m", access=Access.LABELS)
        assert torch.equal(endpoint.labels(INPUTS), truth(INPUTS).argmax(1))


@pytest.mark.parametrize("access", [Access.LABELS, Access.PROBABILITIES])
def test_hugging_face_gets_a_picture_a_request(access):
    with HostileServer() as server:
        endpoint = through(server, protocol="huggingface", path="/hf", model="a/b", access=access, class_names=NAMES)
        expected = truth(INPUTS).softmax(1)
        assert_close(endpoint.answers(INPUTS), expected if access > Access.LABELS else expected.argmax(1))
        assert set(server.paths) == {"/hf/models/a/b"}
        assert [count for _, count in server.requests] == [1] * len(INPUTS)
        assert endpoint.block == 2


def test_a_template_speaks_any_other_json():
    with HostileServer() as server:
        endpoint = through(
            server, protocol="template", path="/any", model="m", template=BODY, answer="results[].scores"
        )
        assert_close(endpoint.logits(INPUTS), truth(INPUTS))
        assert set(server.paths) == {"/any"}


def test_inputs_follow_the_convention_in_every_protocol():
    convention = InputConvention(range=(0, 255), layout="NHWC", mean=(10.0,), std=(2.0,))
    expected = ((INPUTS * 255 - 10) / 2).permute(0, 2, 3, 1)
    for inputs, wanted in (
        (InputFormat(convention), expected),
        (InputFormat(convention, flat=True), expected.flatten(1)),
    ):
        (tensor,) = json.loads(OpenInference("m", inputs, LOGITS).request(INPUTS).body)["inputs"]
        assert tensor["shape"] == list(wanted.shape)
        assert_close(torch.tensor(tensor["data"]), wanted.flatten())
        instances = json.loads(TensorFlowServing("m", inputs, LOGITS).request(INPUTS).body)["instances"]
        assert_close(torch.tensor(instances), wanted)
        assert_close(torch.tensor(json.loads(template(inputs=inputs).request(INPUTS).body)["x"]), wanted)


def test_numbers_arrive_bit_by_bit():
    inputs = pictures(3)
    (tensor,) = json.loads(OpenInference("m", PLAIN, LOGITS).request(inputs).body)["inputs"]
    assert torch.equal(torch.tensor(tensor["data"], dtype=torch.float32), inputs.flatten())


@pytest.mark.parametrize("channels", [1, 3])
def test_pngs_hold_the_picture(channels):
    inputs = (pictures(1, shape=(channels, 5, 7)) * 255).round() / 255
    body = HuggingFace("", PROBABILITIES).request(inputs).body
    levels = np.asarray(Image.open(io.BytesIO(body))).reshape(5, 7, channels)
    assert torch.equal(torch.from_numpy(levels.astype(np.float32) / 255).permute(2, 0, 1), inputs[0])
    encoded = json.loads(template('{"x": "{{ images[0] }}"}').request(inputs).body)["x"]
    assert base64.b64decode(encoded) == body


def v2(data, shape, **more):
    return json.dumps({"outputs": [{"name": "y", "datatype": "FP32", "shape": shape, "data": data, **more}]}).encode()


@pytest.mark.parametrize(
    ("protocol", "body", "expected"),
    [
        (OpenInference("m", PLAIN, LABELS), v2([3, 0], [2]), [3, 0]),
        (OpenInference("m", PLAIN, LABELS), v2([[3], [0]], [2, 1]), [3, 0]),
        (OpenInference("m", PLAIN, LABELS), v2([3.0, 0.0], [2]), [3, 0]),
        (OpenInference("m", PLAIN, LABELS), v2(["LABEL_3", "LABEL_0"], [2], datatype="BYTES"), [3, 0]),
        (OpenInference("m", PLAIN, LOGITS), v2([1, 2, 3, 4, -5, 6, 7, 8e2], [2, 4]), [[1, 2, 3, 4], [-5, 6, 7, 8e2]]),
        (OpenInference("m", PLAIN, LOGITS), v2([[1, 2, 3, 4], [5, 6, 7, 8]], [2, 4]), [[1, 2, 3, 4], [5, 6, 7, 8]]),
        (OpenInference("m", PLAIN, LOGITS), v2([1, 2, 3, 4] * 2, [2, 4, 1, 1]), [[1, 2, 3, 4]] * 2),
        (
            OpenInference("m", PLAIN, LABELS, output_name="b"),
            b'{"outputs": [{"name": "a"}, {"name": "b", "shape": [2], "data": [1, 2]}]}',
            [1, 2],
        ),
        (TensorFlowServing("m", PLAIN, LABELS, "c"), b'{"predictions": [{"c": 1, "p": []}, {"c": 2}]}', [1, 2]),
        (template(outputs=LABELS, answer="r[].top.id"), b'{"r": [{"top": {"id": 1}}, {"top": {"id": 2}}]}', [1, 2]),
        (
            template(outputs=AnswerFormat(Access.LABELS, CLASSES, NAMES), answer="[*].name"),
            b'[{"name": "dog"}, {"name": "ant"}]',
            [3, 0],
        ),
    ],
)
def test_what_answers_mean(protocol, body, expected):
    assert protocol.answers(body, 2).tolist() == expected


TOP = [{"label": "dog", "score": 0.6}, {"label": "bee", "score": 0.3}]
NAMED = AnswerFormat(Access.PROBABILITIES, CLASSES, NAMES)
TWO = AnswerFormat(Access.PROBABILITIES, 2)
FROM_ONE = AnswerFormat(Access.LABELS, CLASSES, first_label=1)


@pytest.mark.parametrize(
    ("protocol", "body", "expected"),
    [
        # The best classes with their scores, in the fields of several services.
        (template(outputs=NAMED), json.dumps({"y": [TOP] * 2}), [[0, 0.3, 0, 0.6]] * 2),
        (
            template(outputs=PROBABILITIES),
            '{"y": [[{"class": 2, "confidence": 0.5}], [{"index": 0, "probability": 1}]]}',
            [[0, 0, 0.5, 0], [1, 0, 0, 0]],
        ),
        (template(outputs=replace(NAMED, access=Access.LABELS)), json.dumps({"y": [TOP, TOP[1]]}), [3, 1]),
        # Triton's classification extension.
        (
            OpenInference("m", PLAIN, PROBABILITIES),
            v2(["0.6:3:dog", "0.3:1:bee", "1:0", "1e-3:2:a:b"], [2, 2], datatype="BYTES"),
            [[0, 0.3, 0, 0.6], [1, 0, 1e-3, 0]],
        ),
        (OpenInference("m", PLAIN, LABELS), v2(["-3.5:3:dog", "-7:0:ant"] * 2, [2, 2], datatype="BYTES"), [3, 3]),
        (OpenInference("m", PLAIN, LABELS), v2(["0.6:3", "0.3:1"], [2, 1], datatype="BYTES"), [3, 1]),
        (OpenInference("m", PLAIN, FROM_ONE), v2(["0.6:3", "0.3:1"], [2], datatype="BYTES"), [3, 1]),
        # One column for two classes.
        (OpenInference("m", PLAIN, TWO), v2([0.25, 1], [2, 1]), [[0.75, 0.25], [0, 1]]),
        (OpenInference("m", PLAIN, TWO), v2([0.25, 1], [2]), [[0.75, 0.25], [0, 1]]),
        (TensorFlowServing("m", PLAIN, TWO), '{"predictions": [[0.25], [1]]}', [[0.75, 0.25], [0, 1]]),
        (TensorFlowServing("m", PLAIN, AnswerFormat(Access.LOGITS, 2)), '{"predictions": [-3, 2]}', [[0, -3], [0, 2]]),
        # Axes of size 1.
        (TensorFlowServing("m", PLAIN, LOGITS), '{"predictions": [[[[1]],[[2]],[[3]],[[4]]], [[5,6,7,8]]]}', ROWS),
        # Labels from 1, as numbers.
        (OpenInference("m", PLAIN, FROM_ONE), v2([1, 4], [2]), [0, 3]),
        (OpenInference("m", PLAIN, FROM_ONE), v2(["LABEL_1", "LABEL_0"], [2]), [1, 0]),
    ],
)
def test_habits_of_servers(protocol, body, expected):
    body = body if isinstance(body, bytes) else body.encode()
    assert_close(protocol.answers(body, 2).double(), torch.tensor(expected).double())


@pytest.mark.parametrize(
    ("protocol", "body", "complaint"),
    [
        (
            OpenInference("m", PLAIN, LABELS),
            v2([1, 4], [2]),
            "outside 0..3. If its labels begin at 1, set first_label=1",
        ),
        (OpenInference("m", PLAIN, FROM_ONE), v2([1, 0], [2]), "the label 0 is outside 1..4"),
        (OpenInference("m", PLAIN, LOGITS), v2(["0.6:3", "0.3:1"], [2, 1], datatype="BYTES"), "logits of 1 classes"),
        (
            OpenInference("m", PLAIN, PROBABILITIES),
            v2(["1:3", "x"] * 2, [2, 2], datatype="BYTES"),
            "a row has 2 numbers",
        ),
        (OpenInference("m", PLAIN, PROBABILITIES), v2(["1:3"] * 4, [2, 2], datatype="BYTES"), "listed twice"),
        (OpenInference("m", PLAIN, PROBABILITIES), v2(["1:9"] * 4, [2, 2], datatype="BYTES"), "9 is outside"),
        (OpenInference("m", PLAIN, PROBABILITIES), v2(["1:1"] * 10, [2, 5], datatype="BYTES"), "the shape [2, 5]"),
        (template(outputs=NAMED), '{"y": [[{"label": "elk", "score": 1}]] }', "1 answers to 2"),
        (template(outputs=NAMED), '{"y": [[{"label": "elk", "score": 1}], []]}', "'elk' is not among the 4"),
        (template(outputs=NAMED), '{"y": [[{"label": "ant"}], []]}', "no 'score' but label"),
        (template(outputs=LABELS), '{"y": [[{"label": 1, "score": null}], [1]]}', "null came where a number"),
        (TensorFlowServing("m", PLAIN, TWO), '{"predictions": [[1.5], [1]]}', "is no probability"),
        (TensorFlowServing("m", PLAIN, TWO), '{"predictions": [true, [1]]}', "a truth value came where a row"),
    ],
)
def test_habits_that_no_server_has(protocol, body, complaint):
    with pytest.raises(OracleError) as refusal:
        protocol.answers(body if isinstance(body, bytes) else body.encode(), 2)
    assert complaint in str(refusal.value)


def test_classes_that_hugging_face_leaves_out_get_nothing():
    body = b'[{"label": "LABEL_2", "score": 0.7}, {"label": "LABEL_0", "score": 0.2}]'
    assert_close(HuggingFace("", PROBABILITIES).answers(body, 1), torch.tensor([[0.2, 0, 0.7, 0]]))
    assert HuggingFace("", LABELS).answers(body, 1).tolist() == [2]


@pytest.mark.parametrize(
    ("protocol", "body", "complaint"),
    [
        (OpenInference("m", PLAIN, LOGITS), b'{"error": "no\\u0000 such\\nmodel"}', "says: no? such model"),
        (OpenInference("m", PLAIN, LOGITS), b"[]", "an object with 'outputs' is needed"),
        (OpenInference("m", PLAIN, LOGITS), b'{"outputs": [1]}', "a list of objects"),
        (OpenInference("m", PLAIN, LOGITS), b'{"outputs": []}', "several outputs or none"),
        (OpenInference("m", PLAIN, LOGITS), b'{"outputs": [{"name": "a"}, {"name": "b"}]}', "(a, b); name one"),
        (OpenInference("m", PLAIN, LOGITS), b'{"outputs": [{"name": "a"}]}', "no shape"),
        (OpenInference("m", PLAIN, LOGITS), v2(None, [2, 4]), "null; a list of numbers"),
        (OpenInference("m", PLAIN, LOGITS), v2([True] * 8, [2, 4]), "a truth value came where a number"),
        (OpenInference("m", PLAIN, LOGITS), v2(["1"] * 8, [2, 4]), "a text came where a number"),
        (OpenInference("m", PLAIN, LOGITS), v2([None] * 8, [2, 4]), "null came where a number"),
        (OpenInference("m", PLAIN, LOGITS), v2([10**400] * 8, [2, 4]), "too large"),
        (OpenInference("m", PLAIN, LOGITS), v2([1e39] * 8, [2, 4]), "NaN or infinite"),
        (OpenInference("m", PLAIN, LOGITS), v2([1] * 8, [4, 2]), "the shape [4, 2]; [2, 4] is needed"),
        (OpenInference("m", PLAIN, LOGITS), v2([1, 2], [2]), "the shape [2]; [2, 4] is needed"),
        (OpenInference("m", PLAIN, LABELS), v2([1] * 8, [2, 4]), "the shape [2, 4]; [2] is needed"),
        (OpenInference("m", PLAIN, LABELS), v2([1, 4], [2]), "the label 4 is outside 0..3"),
        (
            OpenInference("m", PLAIN, LABELS),
            v2([100, 103], [2]),
            "the label 100 is outside 0..3. If its labels begin at another number, set first_label",
        ),
        (OpenInference("m", PLAIN, LABELS), v2([1, -1], [2]), "the label -1 is outside"),
        (OpenInference("m", PLAIN, LABELS), v2([1, 0.5], [2]), "0.5 came where a label"),
        (OpenInference("m", PLAIN, LABELS), v2([1, True], [2]), "a truth value came where a label"),
        (OpenInference("m", PLAIN, LABELS), v2([1, 10**400], [2]), "outside 0..3"),
        (OpenInference("m", PLAIN, LABELS), v2(["cat", "dog"], [2]), "'cat' is unknown; give the class names"),
        (OpenInference("m", PLAIN, LABELS), v2(["LABEL_9", "LABEL_1"], [2]), "the label 9 is outside"),
        (OpenInference("m", PLAIN, AnswerFormat(Access.LABELS, 4, NAMES)), v2(["elk"] * 2, [2]), "not among the 4"),
        (OpenInference("m", PLAIN, PROBABILITIES), v2([1.1, 0, 0, 0] * 2, [2, 4]), "1.1 is no probability"),
        (OpenInference("m", PLAIN, PROBABILITIES), v2([-1, 0, 0, 0] * 2, [2, 4]), "-1 is no probability"),
        (TensorFlowServing("m", PLAIN, LOGITS), b'{"predictions": [[1, 2, 3, 4]]}', "1 answers to 2 queries"),
        (TensorFlowServing("m", PLAIN, LOGITS), b'{"predictions": [[1, 2, 3, 4], [1]]}', "a row has 1 numbers; 4"),
        (TensorFlowServing("m", PLAIN, LOGITS), b'{"predictions": {"a": 1}}', "an object; a list is needed"),
        (TensorFlowServing("m", PLAIN, LOGITS), b'{"predictions": [1, 2]}', "a row of 4 numbers"),
        (TensorFlowServing("m", PLAIN, LABELS), b'{"predictions": [[1], [2]]}', "declare probabilities or logits"),
        (TensorFlowServing("m", PLAIN, LOGITS), b'{"predictions": [{"a": 1}, {"a": 2}]}', "several outputs (a)"),
        (TensorFlowServing("m", PLAIN, LOGITS, "a"), b'{"predictions": [{"a": 1}, 2]}', "the answer is 2"),
        (template(), b'{"z": 1}', "'y' finds nothing in the answer '{\"z\": 1}'"),
        (
            template(answer="r[].s", outputs=PROBABILITIES),
            b'{"r": [{"s": {"cat": 0.1, "a dog": 0.9}}, {"s": {"cat": 0, "a dog": 1}}]}',
            """list them in the order of the classes: --set answer='r[].s.[cat, "a dog"]'""",
        ),
        (template(), b'{"y": [{"cat": {"x": 1}}, {}]}', "an object with cat came where a row of 4 numbers is needed"),
        (template(answer="abs(y)"), b'{"y": "text"}', "cannot be applied"),
        (template(), b'{"y": NaN}', "an answer is NaN"),
        (template(), b'{"y": -Infinity}', "an answer is -Infinity"),
        (template(), b"\xff\xfe\xfd", "is not JSON"),
        (template(), b'{"y":' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_answer(protocol, body, complaint):
    with pytest.raises(OracleError) as refusal:
        protocol.answers(body, 2)
    assert complaint in str(refusal.value)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"[]", "lists no class"),
        (b'{"label": "LABEL_1"}', "a list of objects"),
        (b'[{"label": "LABEL_1"}]', "no 'score'"),
        (b'[{"label": "LABEL_1", "score": "0.5"}]', "a text came where a number"),
        (b'[{"label": "LABEL_1", "score": 1e400}]', "NaN or infinite"),
        (b'[{"label": "LABEL_1", "score": 7}]', "7 is no probability"),
        (b'[{"label": "LABEL_1", "score": 0.5}, {"label": "LABEL_1", "score": 0.5}]', "listed twice"),
        (b'[{"label": "LABEL_4", "score": 0.5}]', "outside 0..3"),
        (b'[{"label": ["LABEL_1"], "score": 0.5}]', "a label is needed"),
        (b'{"error": "Model is loading"}', "a list of objects"),
    ],
)
def test_what_is_no_answer_of_hugging_face(body, complaint):
    with pytest.raises(OracleError) as refusal:
        HuggingFace("", PROBABILITIES).answers(body, 1)
    assert complaint in str(refusal.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["LABEL_1", "y"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["y", "outputs", "predictions", "shape", "data", "label", "score"]), inner)
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(JSON | st.fixed_dictionaries({"outputs": st.tuples(st.fixed_dictionaries({"shape": JSON, "data": JSON}))}))
def test_any_document_is_an_answer_or_one_line(document):
    body = json.dumps(document).encode()
    for outputs in (LABELS, PROBABILITIES, LOGITS):
        protocols = [
            OpenInference("m", PLAIN, outputs),
            TensorFlowServing("m", PLAIN, outputs),
            template(outputs=outputs),
        ]
        protocols += [HuggingFace("", outputs)] if outputs is not LOGITS else []
        for protocol in protocols:
            try:
                answers = protocol.answers(body, 1)
            except OracleError:
                continue
            if outputs is LABELS:
                assert answers.shape == (1,)
                assert 0 <= int(answers) < CLASSES
            else:
                assert answers.shape == (1, CLASSES)
                assert answers.isfinite().all()
