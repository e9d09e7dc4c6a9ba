"""What to send to an inference server, and what its answer means. Nothing here touches the network.

A protocol turns pictures into the body of a request and the body of a response into answers.

The Open Inference Protocol has a file of its own (`whorl.oracles.open_inference`). Sources: TensorFlow Serving
(https://www.tensorflow.org/tfx/serving/api_rest, "Predict API"), Hugging Face
(https://huggingface.co/docs/inference-providers/tasks/image-classification).
"""

from __future__ import annotations

import base64
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Final, final
from urllib.parse import quote

import torch
from torch import Tensor

from whorl.errors import MissingExtra, OracleError, UsageError
from whorl.oracles.formats import AnswerFormat, InputFormat, dicts, member, parse_json, png, shorten
from whorl.oracles.templates import bounded_environment, filled, refuse_growth
from whorl.types import Access

__all__ = ["HuggingFace", "Protocol", "Request", "Template", "TensorFlowServing"]

JSON: Final = {"Content-Type": "application/json"}
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # what JMESPath takes without quotes
MOST_NAMED: Final = 10


@dataclass(frozen=True)
class Request:
    """What is sent: a body, and the headers that say what it is."""

    body: bytes
    headers: Mapping[str, str]

    @classmethod
    def of_json(cls, document: Any) -> Request:
        """A document as JSON."""
        return cls(json.dumps(document, separators=(",", ":")).encode(), JSON)


class Protocol(ABC):
    """How to ask about pictures, and how to read the answer.

    ``path`` follows the address in the URL; ``most`` bounds the pictures in one request.
    """

    most: ClassVar[int | None] = None

    @final
    @property
    def path(self) -> str:
        """What follows the address in the URL."""
        return self._path()

    @final
    def request(self, inputs: Tensor) -> Request:
        """The request for pictures ``[n, c, h, w]`` in [0, 1]. Raises `UsageError` where they can't be sent."""
        return self._encode(inputs)

    @final
    def check(self, input_shape: tuple[int, int, int]) -> None:
        """Raise `UsageError` where pictures can't be sent: every one lies between a black and a white one."""
        for shade in (torch.zeros, torch.ones):
            self.request(shade(1, *input_shape))

    @final
    def answers(self, body: bytes | bytearray, count: int, json_length: str | None = None) -> Tensor:
        """The answers to ``count`` pictures: ``[count]`` int64 labels or ``[count, classes]`` float32.

        Parameters:
            json_length: what the response's header says of where its JSON ends; None where it is JSON alone.

        Raises:
            OracleError: the response is no answer to that many pictures.
        """
        try:
            return self._read(body, count, json_length)
        except RecursionError:
            raise OracleError("the answer is nested too deeply") from None

    def _read(self, body: bytes | bytearray, count: int, _json_length: str | None) -> Tensor:
        return self._decode(parse_json(body), count)

    def _path(self) -> str:
        return ""

    @abstractmethod
    def _encode(self, inputs: Tensor) -> Request: ...

    @abstractmethod
    def _decode(self, document: Any, count: int) -> Tensor: ...


@dataclass(frozen=True)
class TensorFlowServing(Protocol):
    """TensorFlow Serving's row format: ``{"instances": ...}`` to ``{"predictions": ...}``."""

    model: str
    inputs: InputFormat
    outputs: AnswerFormat
    output_name: str = ""
    signature: str = ""

    def _path(self) -> str:
        return f"/v1/models/{quote(self.model)}:predict"

    def _encode(self, inputs: Tensor) -> Request:
        request: dict[str, Any] = {"instances": self.inputs.encode(inputs).tolist()}
        if self.signature:
            request["signature_name"] = self.signature
        return Request.of_json(request)

    def _decode(self, document: Any, count: int) -> Tensor:
        predictions = member(document, "predictions")
        if isinstance(predictions, list) and predictions and isinstance(predictions[0], dict):
            if not self.output_name:
                names = ", ".join(map(shorten, predictions[0]))
                raise OracleError(f"there are several outputs ({names}); name one output")
            predictions = [member(row, self.output_name) for row in predictions]
        return self.outputs.decode(predictions, count)


@dataclass(frozen=True)
class HuggingFace(Protocol):
    """Hugging Face image classification: one PNG a request, ``[{label, score}, ...]`` back.

    PNG holds 256 levels a channel, so queries are rounded to 1/255. Classes that the answer leaves out (the API lists
    its best five unless told otherwise) get the probability 0.
    """

    model: str
    outputs: AnswerFormat

    most: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        if self.outputs.access is Access.LOGITS:
            raise UsageError("Hugging Face image classification grants labels or probabilities, not logits")

    def _path(self) -> str:
        return f"/models/{quote(self.model)}" if self.model else ""

    def _encode(self, inputs: Tensor) -> Request:
        (picture,) = inputs
        return Request(png(picture), {"Content-Type": "image/png"})

    def _decode(self, document: Any, count: int) -> Tensor:
        if count != self.most:
            raise UsageError(f"Hugging Face image classification takes one picture a request, not {count}")
        entries = [(member(entry, "label"), member(entry, "score")) for entry in dicts(document, "answer")]
        row = self.outputs.listed(entries)
        scores = replace(self.outputs, access=Access.PROBABILITIES).decode([row], 1)
        return scores.argmax(1) if self.outputs.access is Access.LABELS else scores


@dataclass(frozen=True)
class Template(Protocol):
    """Any other JSON API: a jinja2 template for the request, a JMESPath expression for the answer.

    The template runs in a bounded sandbox (`whorl.oracles.templates`) and may use ``inputs`` (nested lists), ``images``
    (base64 PNGs) and ``model``.
    The expression gives a list of labels or of rows, one a picture, as in ``results[].scores``.

    Raises:
        MissingExtra: JMESPath is not installed.
        UsageError: the template or the expression cannot be read.
    """

    template: str
    answer: str
    inputs: InputFormat
    outputs: AnswerFormat
    model: str = ""

    def __post_init__(self) -> None:
        _ = self._compiled, self._expression  # mistakes show before the first query

    @cached_property
    def _compiled(self) -> Any:
        from jinja2 import TemplateError, meta

        environment = bounded_environment()
        try:
            tree = environment.parse(self.template)
            refuse_growth(tree)  # first, as what follows compiles the template
            if unknown := meta.find_undeclared_variables(tree) - {"inputs", "images", "model"}:
                raise UsageError(f"the template uses {', '.join(sorted(unknown))}; it may use inputs, images and model")
            return environment.from_string(self.template)
        except (TemplateError, RecursionError) as error:
            raise UsageError(f"the template cannot be read: {shorten(error)}") from None

    @cached_property
    def _expression(self) -> Any:
        try:
            import jmespath
            from jmespath.exceptions import JMESPathError
        except ImportError:
            raise MissingExtra("JMESPath answers", "http") from None
        try:
            return jmespath.compile(self.answer)
        except JMESPathError as error:
            raise UsageError(f"the JMESPath expression {self.answer!r} cannot be read: {shorten(error)}") from None

    def _encode(self, inputs: Tensor) -> Request:
        from jinja2 import TemplateError

        images = [base64.b64encode(png(row)).decode() for row in inputs] if "images" in self.template else []
        values = self.inputs.encode(inputs).tolist() if "inputs" in self.template else []
        try:
            text = filled(self._compiled, inputs=values, images=images, model=self.model)
            json.loads(text)
        except (TemplateError, TypeError, ArithmeticError, LookupError, RecursionError) as error:
            raise UsageError(f"the template cannot be filled in: {shorten(error)}") from None
        except ValueError as error:
            raise UsageError(f"the template does not give JSON: {shorten(error)}") from None
        return Request(text.encode(), JSON)

    def _decode(self, document: Any, count: int) -> Tensor:
        from jmespath.exceptions import JMESPathError

        try:
            found = self._expression.search(document)
        except (JMESPathError, RecursionError) as error:
            raise OracleError(f"{self.answer!r} cannot be applied to the answer: {shorten(error)}") from None
        if found is None:
            raise OracleError(f"{self.answer!r} finds nothing in the answer {shorten(json.dumps(document))!r}")
        self._refuse_objects(found)
        return self.outputs.decode(found, count)

    def _refuse_objects(self, found: object) -> None:
        """Objects of a number a class have an order only where the expression gives them one."""
        first = found[0] if isinstance(found, list) and found else None
        numbers = isinstance(first, dict) and all(type(value) in (int, float) for value in first.values())
        if first and numbers and self.outputs.access is not Access.LABELS:
            names = [name if NAME.fullmatch(name) else json.dumps(name) for name in map(shorten, first)]
            listed = ", ".join([*names[:MOST_NAMED], *(["..."] if len(names) > MOST_NAMED else [])])
            raise OracleError(
                f"{self.answer!r} finds objects, whose numbers have no order; list them in the order of the classes: "
                f"--set answer='{self.answer}.[{listed}]' (in Python answer=)"
            )
