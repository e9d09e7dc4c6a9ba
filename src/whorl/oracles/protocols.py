"""What to send to an inference server, and what its answer means. Nothing here touches the network.

A protocol turns pictures into the body of a request and the body of a response into answers.

Sources: Open Inference Protocol v2 (https://github.com/kserve/open-inference-protocol, REST), TensorFlow Serving
(https://www.tensorflow.org/tfx/serving/api_rest, "Predict API"), Hugging Face
(https://huggingface.co/docs/inference-providers/tasks/image-classification).
"""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, final
from urllib.parse import quote

import torch
from torch import Tensor

from whorl.errors import MissingExtra, OracleError, UsageError
from whorl.oracles.formats import AnswerFormat, InputFormat, describe, parse_json, png, shorten
from whorl.oracles.templates import bounded_environment, filled, refuse_growth
from whorl.types import Access

__all__ = ["HuggingFace", "OpenInference", "Protocol", "Template", "TensorFlowServing"]


class Protocol(ABC):
    """How to ask about pictures, and how to read the answer.

    ``path`` follows the address in the URL; ``most`` bounds the pictures in one request.
    """

    content_type: ClassVar[str] = "application/json"
    most: ClassVar[int | None] = None

    @final
    @property
    def path(self) -> str:
        """What follows the address in the URL."""
        return self._path()

    @final
    def body(self, inputs: Tensor) -> bytes:
        """The request for pictures ``[n, c, h, w]`` in [0, 1]. Raises `UsageError` where they can't be sent."""
        return self._encode(inputs)

    @final
    def answers(self, body: bytes | bytearray, count: int) -> Tensor:
        """The answers to ``count`` pictures: ``[count]`` int64 labels or ``[count, classes]`` float32.

        Raises:
            OracleError: the response is no answer to that many pictures.
        """
        try:
            return self._decode(parse_json(body), count)
        except RecursionError:
            raise OracleError("the answer is nested too deeply") from None

    def _path(self) -> str:
        return ""

    @abstractmethod
    def _encode(self, inputs: Tensor) -> bytes: ...

    @abstractmethod
    def _decode(self, document: Any, count: int) -> Tensor: ...


@dataclass(frozen=True)
class OpenInference(Protocol):
    """Open Inference Protocol v2, JSON tensors: KServe, Triton, MLServer."""

    model: str
    inputs: InputFormat
    outputs: AnswerFormat
    input_name: str = ""
    output_name: str = ""
    datatype: str = ""

    @property
    def description_path(self) -> str:
        """Where the server describes the model's inputs and outputs."""
        return f"/v2/models/{quote(self.model)}"

    def _path(self) -> str:
        return f"{self.description_path}/infer"

    def described(self, body: bytes | bytearray, input_shape: tuple[int, int, int]) -> OpenInference:
        """This protocol with the names and the data type that the server's description gives.

        Raises:
            OracleError: the server's model does not take pictures as they would be sent.
        """
        document = parse_json(body)
        tensors = document.get("inputs") if isinstance(document, dict) else None
        if not tensors:
            return self
        given = [tensor for tensor in _dicts(tensors, "inputs") if self.input_name in ("", tensor.get("name"))]
        if len(given) != 1:
            names = ", ".join(shorten(tensor.get("name")) for tensor in _dicts(tensors, "inputs"))
            raise OracleError(f"the model takes several inputs ({names}); exactly one must be named as the input")
        tensor = given[0]
        sent = list(self.inputs.encode(torch.zeros(1, *input_shape)).shape)
        wanted = tensor.get("shape")
        if isinstance(wanted, list) and wanted and not _fits(sent, wanted):
            shape = ", ".join(map(describe, wanted[:8]))
            raise OracleError(
                f"the model takes inputs of shape [{shape}]; [n, {', '.join(map(str, sent[1:]))}] would be sent. "
                "Mend input.shape, input.layout or http.flat"
            )
        name, datatype = str(tensor.get("name") or ""), self.datatype or str(tensor.get("datatype") or "")
        return replace(self, input_name=name, datatype=datatype)

    def _encode(self, inputs: Tensor) -> bytes:
        values = self.inputs.encode(inputs)
        datatype = self.datatype or "FP32"
        if "INT" in datatype:
            if self.inputs.convention.bounds == (0, 1):
                raise UsageError(f"the model takes {datatype}, which cannot hold 0..1; set input.range to [0, 255]")
            values = values.round().long()
        elif not datatype.startswith(("FP", "BF")):
            raise UsageError(f"the model takes {shorten(datatype)}; pictures can be sent as FP32 or UINT8")
        tensor = {
            "name": self.input_name or "input",
            "shape": list(values.shape),
            "datatype": datatype,
            "data": values.ravel().tolist(),
        }
        request: dict[str, Any] = {"inputs": [tensor]}
        if self.output_name:
            request["outputs"] = [{"name": self.output_name}]
        return json.dumps(request, separators=(",", ":")).encode()

    def _decode(self, document: Any, count: int) -> Tensor:
        outputs = _dicts(_member(document, "outputs"), "outputs")
        chosen = [tensor for tensor in outputs if self.output_name in ("", tensor.get("name"))]
        if len(chosen) != 1:
            names = ", ".join(shorten(tensor.get("name")) for tensor in outputs) or "none"
            raise OracleError(f"there are several outputs or none of the name asked for ({names}); name one output")
        shape, data = chosen[0].get("shape"), chosen[0].get("data")
        if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
            raise OracleError("an output has no shape")
        width = self._width(chosen[0], count)
        data = _flattened(data, len(shape))
        if len(data) != count * width:
            raise OracleError(f"the answer has {len(data)} values; its shape says {count * width}")
        rows = [data[start : start + width] for start in range(0, len(data), width)]
        plain = self.outputs.access is Access.LABELS and width == 1
        return self.outputs.decode(data if plain else rows, count)

    def _width(self, tensor: dict[str, Any], count: int) -> int:
        """Values a picture, where they are one a class, one for two classes, or a list of the best classes."""
        shape, labels, classes = tensor["shape"], self.outputs.access is Access.LABELS, self.outputs.classes
        sizes = [size for size in shape[1:] if size != 1]
        width = sizes[0] if len(sizes) == 1 else 1
        lists = tensor.get("datatype") == "BYTES" and 1 <= width <= classes
        fits = lists or width == (1 if labels else classes) or (width == 1 and classes == 2)
        if not shape or shape[0] != count or len(sizes) > 1 or not fits:
            needed = [count] if labels else [count, classes]
            raise OracleError(f"the answer has the shape {shorten(shape[:20])}; {needed} is needed")
        return width


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

    def _encode(self, inputs: Tensor) -> bytes:
        request: dict[str, Any] = {"instances": self.inputs.encode(inputs).tolist()}
        if self.signature:
            request["signature_name"] = self.signature
        return json.dumps(request, separators=(",", ":")).encode()

    def _decode(self, document: Any, count: int) -> Tensor:
        predictions = _member(document, "predictions")
        if isinstance(predictions, list) and predictions and isinstance(predictions[0], dict):
            if not self.output_name:
                names = ", ".join(map(shorten, predictions[0]))
                raise OracleError(f"there are several outputs ({names}); name one output")
            predictions = [_member(row, self.output_name) for row in predictions]
        return self.outputs.decode(predictions, count)


@dataclass(frozen=True)
class HuggingFace(Protocol):
    """Hugging Face image classification: one PNG a request, ``[{label, score}, ...]`` back.

    PNG holds 256 levels a channel, so queries are rounded to 1/255. Classes that the answer leaves out (the API lists
    its best five unless told otherwise) get the probability 0.
    """

    model: str
    outputs: AnswerFormat

    content_type: ClassVar[str] = "image/png"
    most: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        if self.outputs.access is Access.LOGITS:
            raise UsageError("Hugging Face image classification grants labels or probabilities, not logits")

    def _path(self) -> str:
        return f"/models/{quote(self.model)}" if self.model else ""

    def _encode(self, inputs: Tensor) -> bytes:
        (picture,) = inputs
        return png(picture)

    def _decode(self, document: Any, count: int) -> Tensor:
        if count != self.most:
            raise UsageError(f"Hugging Face image classification takes one picture a request, not {count}")
        entries = [(_member(entry, "label"), _member(entry, "score")) for entry in _dicts(document, "answer")]
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

    def _encode(self, inputs: Tensor) -> bytes:
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
        return text.encode()

    def _decode(self, document: Any, count: int) -> Tensor:
        from jmespath.exceptions import JMESPathError

        try:
            found = self._expression.search(document)
        except (JMESPathError, RecursionError) as error:
            raise OracleError(f"{self.answer!r} cannot be applied to the answer: {shorten(error)}") from None
        if found is None:
            raise OracleError(f"{self.answer!r} finds nothing in the answer {shorten(json.dumps(document))!r}")
        return self.outputs.decode(found, count)


def _member(document: object, name: str) -> Any:
    if not isinstance(document, dict):
        raise OracleError(f"the answer is {describe(document)}; an object with {name!r} is needed")
    if name not in document:
        said = document.get("error")
        keys = ", ".join(shorten(key, 20) for key in list(document)[:5]) or "nothing"
        raise OracleError(f"the answer has no {name!r} but " + (f"says: {shorten(said)}" if said else keys))
    return document[name]


def _dicts(values: object, what: str) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise OracleError(f"the {what} must be a list of objects")
    return values


def _flattened(data: object, depth: int) -> list[Any]:
    for _ in range(depth):
        if not (isinstance(data, list) and data and all(isinstance(row, list) for row in data)):
            break
        data = [value for row in data for value in row]
    if not isinstance(data, list):
        raise OracleError(f"the data of an output is {describe(data)}; a list of numbers is needed")
    return data


def _fits(sent: list[int], wanted: list[object]) -> bool:
    """Whether a shape fits a description, where sizes below 1 mean any and the axis of pictures may be left out."""
    own, given = sent[1:], wanted[1:] if len(wanted) == len(sent) else wanted
    return len(own) == len(given) and all(
        type(size) is not int or size < 1 or size == mine for mine, size in zip(own, given, strict=True)
    )
