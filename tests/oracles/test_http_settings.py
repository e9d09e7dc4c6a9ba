"""What protocols are told before they ask: descriptions of inputs, and settings that cannot work."""

from __future__ import annotations

import json

import pytest
import torch
from linear_oracle import CLASSES, SHAPE, pictures

from whorl.errors import OracleError, UsageError
from whorl.oracles.convention import InputConvention
from whorl.oracles.formats import AnswerFormat, InputFormat
from whorl.oracles.http import HttpOracle, HttpSettings
from whorl.oracles.open_inference import OpenInference
from whorl.oracles.protocols import HuggingFace, Template
from whorl.types import Access

INPUTS = (pictures(6) * 255).round() / 255
PLAIN = InputFormat()
LABELS, LOGITS = (AnswerFormat(access, CLASSES) for access in (Access.LABELS, Access.LOGITS))


def template(body='{"x": {{ inputs }}}', answer="y"):
    return Template(body, answer, PLAIN, LOGITS, "m")


def described(inputs, protocol=None):
    protocol = protocol or OpenInference("m", PLAIN, LOGITS)
    return protocol.described(json.dumps({"name": "m", "inputs": inputs}).encode(), SHAPE)


def test_a_description_names_the_input_and_its_type():
    found = described([{"name": "pixels", "datatype": "FP16", "shape": [-1, 1, 2, 3]}])
    (tensor,) = json.loads(found.request(INPUTS).body)["inputs"]
    assert (tensor["name"], tensor["datatype"]) == ("pixels", "FP16")
    levels = OpenInference("m", InputFormat(InputConvention(range=(0, 255))), LOGITS)
    (tensor,) = json.loads(described([{"name": "x", "datatype": "UINT8"}], levels).request(INPUTS).body)["inputs"]
    assert tensor["data"] == (INPUTS * 255).flatten().round().tolist()
    assert all(isinstance(value, int) for value in tensor["data"])
    for nothing in (None, []):
        assert described(nothing) == OpenInference("m", PLAIN, LOGITS)
    assert described([{"name": "x", "shape": [1, 2, 3]}]).input_name == "x"  # without the axis of pictures


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        (
            [{"name": "x", "shape": [-1, 2, 3, 1]}],
            r"takes inputs of shape \[-1, 2, 3, 1\]; \[n, 1, 2, 3\] would be sent",
        ),
        ([{"name": "x", "shape": [-1, 6]}], "Mend input.shape"),
        ([{"name": "x"}, {"name": "y"}], r"several inputs \(x, y\)"),
        (["x"], "a list of objects"),
        (7, "a list of objects"),
    ],
)
def test_a_description_of_something_else_is_refused(inputs, complaint):
    with pytest.raises(OracleError, match=complaint):
        described(inputs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: described([{"name": "x", "datatype": "UINT8"}]).request(INPUTS).body,
        lambda: described([{"name": "x", "datatype": "BYTES"}]).request(INPUTS).body,
        lambda: OpenInference("m", PLAIN, LOGITS).request(INPUTS * float("nan")).body,
        lambda: OpenInference("m", InputFormat(InputConvention(mean=(1.0, 2.0))), LOGITS).request(INPUTS).body,
        lambda: HuggingFace("", LOGITS),
        lambda: HuggingFace("", LABELS).request(torch.zeros(1, 2, 3, 3)).body,
        lambda: AnswerFormat(Access.GRADIENTS, 4),
        lambda: AnswerFormat(Access.LABELS, 4, ("a", "b", "c")),
        lambda: AnswerFormat(Access.LABELS, 4, ("a", "b", "c", "c")),
        lambda: template("{{ inputs"),
        lambda: template("{{ picture }}"),
        lambda: template("not json").request(INPUTS).body,
        lambda: template("{{ inputs.__class__.__mro__ }}").request(INPUTS).body,
        lambda: template("{{ inputs[99] }}").request(INPUTS).body,
        lambda: template("{{ 1 / 0 }}").request(INPUTS).body,
        lambda: template("{{ range(999999999) | list }}").request(INPUTS).body,
        lambda: template("{{ 'x' * 10**12 }}").request(INPUTS).body,
        lambda: template("{{ 'x' | center(10000000000) }}"),
        lambda: template("{{ 'x'.center(10000000000) }}").request(INPUTS).body,
        lambda: template("{{ '%10000000000d' % 1 }}").request(INPUTS).body,
        lambda: template("{{ [1] | tojson(10000000000) }}"),
        lambda: template("{% set a = 'x' %}{% set a = a ~ a %}"),
        lambda: template("{% for a in inputs recursive %}{% endfor %}"),
        lambda: template("{% for a in inputs %}" * 5 + "{% endfor %}" * 5),
        lambda: template(answer="a["),
        lambda: template(answer=""),
    ],
)
def test_settings_that_cannot_work_are_refused(make):
    with pytest.raises(UsageError):
        make()


def test_hugging_face_refuses_a_convention_that_pngs_cannot_follow():
    chosen = HttpSettings(url="http://host", protocol="huggingface")
    with pytest.raises(UsageError, match="takes PNG pictures"):
        HttpOracle(
            chosen,
            input_shape=SHAPE,
            classes=CLASSES,
            access=Access.LABELS,
            convention=InputConvention(layout="NHWC"),
        )
