"""Tensors as bytes and the best classes, against a server that was written from the protocol's text."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
from linear_oracle import CLASSES, SHAPE, linear_weights, pictures
from torch.testing import assert_close
from triton_server import TritonServer

from whorl.errors import OracleError, UsageError
from whorl.oracles.binary_tensors import HEADER, numbers, parts
from whorl.oracles.convention import InputConvention
from whorl.oracles.formats import AnswerFormat, InputFormat
from whorl.oracles.http import HttpOracle, HttpSettings
from whorl.oracles.open_inference import OpenInference
from whorl.oracles.opening import open_oracle
from whorl.types import Access

INPUTS = (pictures(6) * 255).round() / 255
TRUTH = (INPUTS.flatten(1) @ linear_weights(int(np.prod(SHAPE)), CLASSES)).softmax(1)
FLOATS = {"FP16": 2e-3, "FP32": 1e-5, "FP64": 1e-5, "BF16": 2e-2}
WHOLE = ["INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "BOOL"]


def endpoint(server, *, access=Access.PROBABILITIES, bounds=None, **settings):
    chosen = HttpSettings(url=server.url, model="m", batch=4, concurrency=1, retries=0, **settings)
    convention = InputConvention(range=bounds)
    return HttpOracle(chosen, input_shape=SHAPE, classes=CLASSES, access=access, convention=convention)


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("named", ["", "y"])
def test_numbers_travel_as_bytes_both_ways_where_the_server_lists_the_extension(kind, named):
    with TritonServer(kind, kind) as server:
        answers = endpoint(server, output_name=named).probabilities(INPUTS)
        assert_close(answers, TRUTH, atol=FLOATS[kind], rtol=0)
        assert all("data" not in request["inputs"][0] for request in server.asked)
        assert_close(torch.tensor(server.inputs[0]).float(), INPUTS[:4], atol=FLOATS[kind], rtol=0)


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("binary", [True, False])
def test_whole_numbers_are_rounded_and_marks_are_probabilities(kind, binary):
    bounds = {"BOOL": None, "INT8": (-128, 127)}.get(kind, (0, 255))
    with TritonServer(kind, kind) as server:
        answers = endpoint(server, bounds=bounds, binary=binary).probabilities(INPUTS)
        low, high = bounds or (0, 1)
        assert np.array_equal(server.inputs[0], (INPUTS[:4] * (high - low) + low).round().numpy())
        assert all(("data" not in request["inputs"][0]) == binary for request in server.asked)
        assert set(answers.unique().tolist()) <= {0.0, 1.0}
        assert answers.sum(1).tolist() == [1] * len(INPUTS)


@pytest.mark.parametrize("extensions", [None, [], ["classification"], "binary_tensor_data", 7])
def test_a_server_that_does_not_know_the_extension_gets_json(extensions):
    with TritonServer(extensions=extensions) as server:
        assert_close(endpoint(server).probabilities(INPUTS), TRUTH)
        assert all("data" in request["inputs"][0] and "parameters" not in request for request in server.asked)


def test_the_description_decides_before_the_server_does():
    with TritonServer() as server:
        assert_close(endpoint(server, binary=False).probabilities(INPUTS), TRUTH)
        assert "data" in server.asked[-1]["inputs"][0]
    with TritonServer(extensions=None) as server:
        assert_close(endpoint(server, binary=True).probabilities(INPUTS), TRUTH)
        assert "data" not in server.asked[-1]["inputs"][0]
    with TritonServer("BF16", extensions=None) as server:
        assert_close(endpoint(server, datatype="BF16", binary=True).probabilities(INPUTS), TRUTH, atol=2e-2, rtol=0)
        suspect = endpoint(server)
        with pytest.raises(UsageError, match=r"BF16, which JSON does not hold; set http\.binary = true"):
            suspect.probabilities(INPUTS)
        assert suspect.sent == 0


@pytest.mark.parametrize("binary", [True, False])
def test_the_best_classes_can_be_asked_for(binary):
    with TritonServer() as server:
        top = endpoint(server, classification=2, binary=binary).probabilities(INPUTS)
        kept = TRUTH.where(TRUTH >= TRUTH.topk(2).values[:, -1:], 0.0)
        assert_close(top, kept, atol=1e-5, rtol=0)
        assert server.asked[-1]["outputs"] == [{"name": "y", "parameters": {"classification": 2}}]
        labels = endpoint(server, classification=1, access=Access.LABELS, binary=binary).labels(INPUTS)
        assert torch.equal(labels, TRUTH.argmax(1))


def test_a_description_in_a_file_asks_for_them_too(tmp_path):
    with TritonServer() as server:
        (tmp_path / "model.toml").write_text(
            f'kind = "http"\nurl = "{server.url}"\nclasses = {CLASSES}\noutput = "probabilities"\n'
            f'[input]\nshape = {list(SHAPE)}\n[http]\nmodel = "m"\nclassification = 1\n'
        )
        found = open_oracle(tmp_path, url=server.url).probabilities(INPUTS)
        assert (found > 0).sum(1).tolist() == [1] * len(INPUTS)
        again = open_oracle(tmp_path, url=server.url, classification=3)
        assert (again.probabilities(INPUTS) > 0).sum(1).tolist() == [3] * len(INPUTS)
        assert again.digest != open_oracle(tmp_path, url=server.url).digest, "other answers, which are not replayed"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"classification": CLASSES + 1}, f"asks for {CLASSES + 1} of {CLASSES} classes"),
        ({"classification": 2, "access": Access.LOGITS}, "declare output as probabilities or labels"),
        ({"datatype": "INT8", "bounds": (0, 255)}, r"INT8, which cannot hold 255; set input\.range"),
        ({"datatype": "FP16", "bounds": (0, 1e6)}, r"FP16, which cannot hold"),
        ({"datatype": "BOOL", "bounds": (0, 255)}, r"BOOL, which cannot hold"),
        ({"datatype": "UINT8"}, r"cannot hold 0\.\.1; set input\.range"),
        ({"datatype": "FP8"}, "pictures can be sent as FP16"),
        ({"datatype": "BF16", "binary": False}, "BF16, which JSON does not hold"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_the_first_query(given, said):
    with TritonServer() as server, pytest.raises(UsageError, match=said):
        endpoint(server, **given).answers(0 * INPUTS)
    assert server.asked == []


def test_the_settings_belong_to_the_protocol():
    for more in ({"binary": True}, {"classification": 1}):
        with pytest.raises(UsageError, match="are for the protocol v2; this is tensorflow"):
            HttpSettings.read({"url": "http://127.0.0.1:9", "protocol": "tensorflow", "model": "m", **more})


def test_the_best_classes_are_asked_of_one_output():
    twice = {"inputs": [{"name": "x"}], "outputs": [{"name": "y"}, {"name": "z"}]}
    protocol = OpenInference("m", InputFormat(), AnswerFormat(Access.LABELS, CLASSES), classification=1)
    with pytest.raises(OracleError, match=r"the model gives y, z; set http\.output_name"):
        protocol.described(json.dumps(twice).encode(), SHAPE)
    with TritonServer(described=False) as server:
        suspect = endpoint(server, classification=1, input_name="x")
        with pytest.raises(UsageError, match="which the server does not name; set output_name"):
            suspect.probabilities(INPUTS)
        assert suspect.sent == 0
        named = endpoint(server, classification=1, input_name="x", output_name="y")
        assert (named.probabilities(INPUTS) > 0).sum(1).tolist() == [1] * len(INPUTS)


def sized(size):
    def spoil(head, rest):
        head["outputs"][0]["parameters"]["binary_data_size"] = size
        return head, rest, None

    return spoil


def told(value):
    return lambda head, rest: (head, rest, value)


def shaped(shape, kind="FP32"):
    def spoil(head, rest):
        head["outputs"][0] |= {"shape": shape, "datatype": kind}
        return head, rest, None

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (told("0"), "the answer is empty"),
        (told("7"), "the answer is not JSON"),
        (told("-1"), rf"header {HEADER} says '-1'"),
        (told("1e3"), "where its JSON ends can't be told"),
        (told("9" * 400), "where its JSON ends can't be told"),
        (told("99999"), "and the answer has [0-9,]+ bytes"),
        (sized(-1), "a binary_data_size of -1"),
        (sized(10**30), "bytes are left"),
        (sized(True), "a binary_data_size of a truth value"),
        (sized("16"), "a binary_data_size of a text"),
        (sized(8), "the outputs state 8 bytes of binary data, and 64 came"),
        (sized(None), "64 came"),
        (lambda head, rest: (head, rest[:-4], None), "a binary_data_size of 64, and 60 bytes are left"),
        (lambda head, rest: (head, rest + b"x", None), "state 64 bytes of binary data, and 65 came"),
        (shaped([4, CLASSES], "FP64"), "in FP64 has 64 bytes; 128 are due"),
        (shaped([4, CLASSES], "FP8"), "the data type a text, which is not read"),
        (shaped([4, CLASSES], None), "the data type null, which is not read"),
        (shaped([2**40, CLASSES]), "the answer has the shape"),
        (shaped([4, CLASSES], "BYTES"), "in BYTES"),
        (lambda head, rest: (head, struct.pack("<f", float("nan")) * 16, None), "NaN or infinite"),
        (lambda head, rest: (head, struct.pack("<f", 7) * 16, None), "7 is no probability"),
    ],
)
def test_a_body_that_lies_about_its_bytes_is_one_line(spoil, said):
    with TritonServer(spoil=spoil) as server, pytest.raises(OracleError, match=said) as caught:
        endpoint(server).probabilities(INPUTS[:4])
    assert str(caught.value).isprintable()


def test_texts_in_bytes_are_read_one_by_one():
    def packed(*texts):
        return memoryview(b"".join(struct.pack("<I", len(text)) + text for text in texts))

    assert numbers(packed(b"0.5:1", b"\xff"), "BYTES", 2) == ["0.5:1", "\ufffd"]
    for data, count in ((packed(b"a"), 2), (packed(b"a", b"b"), 1), (packed(b"a")[:-1], 1), (packed(b"a")[:3], 1)):
        with pytest.raises(OracleError, match="BYTES"):
            numbers(data, "BYTES", count)
    many = memoryview(bytes(4 * 10**6))  # a million texts of no length, where two are due
    with pytest.raises(OracleError, match="does not hold the 2 texts"):
        numbers(many, "BYTES", 2)


def test_a_part_of_a_body_is_a_view_and_no_copy():
    body = bytearray(b'{"a":1}xyz')
    head, rest = parts(body, "7")
    assert (bytes(head), bytes(rest)) == (b'{"a":1}', b"xyz")
    assert rest.obj is body


def test_float32_travels_bit_by_bit():
    protocol = OpenInference("m", InputFormat(), AnswerFormat(Access.LOGITS, CLASSES), binary=True)
    request = protocol.request(INPUTS)
    length = int(request.headers[HEADER])
    assert request.body[length:] == INPUTS.numpy().astype("<f4").tobytes()
