"""The Open Inference Protocol v2, as KServe, Triton and MLServer speak it. Nothing here touches the network.

Sources: https://github.com/kserve/open-inference-protocol (REST, and its binary tensor data extension), Triton
(``docs/protocol/extension_classification.md``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from whorl.errors import OracleError, UsageError
from whorl.oracles.binary_tensors import HEADER, fitting, numbers, parts, raw
from whorl.oracles.formats import AnswerFormat, InputFormat, describe, dicts, member, parse_json, shorten
from whorl.oracles.protocols import Protocol, Request
from whorl.types import Access

__all__ = ["OpenInference"]

EXTENSION = "binary_tensor_data"


@dataclass(frozen=True)
class OpenInference(Protocol):
    """Tensors in JSON, or as bytes where ``binary`` is true.

    ``classification`` asks Triton for the best so many classes of a named output, as texts ``score:index:name``.
    """

    model: str
    inputs: InputFormat
    outputs: AnswerFormat
    input_name: str = ""
    output_name: str = ""
    datatype: str = ""
    binary: bool = False
    classification: int = 0

    def __post_init__(self) -> None:
        if self.classification > self.outputs.classes:
            raise UsageError(f"classification asks for {self.classification} of {self.outputs.classes} classes")
        if self.classification and self.outputs.access is Access.LOGITS:
            raise UsageError("classification lists the best classes; declare output as probabilities or labels")

    @property
    def description_path(self) -> str:
        """Where the server describes the model's inputs and outputs."""
        return f"/v2/models/{quote(self.model)}"

    @property
    def unnamed(self) -> bool:
        """Whether an output must be named in the request, and is not."""
        return bool(self.classification) and not self.output_name

    @property
    def named(self) -> bool:
        """Whether the server need not be asked for names."""
        return bool(self.input_name) and not self.unnamed

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
        given = [tensor for tensor in dicts(tensors, "inputs") if self.input_name in ("", tensor.get("name"))]
        if len(given) != 1:
            names = ", ".join(shorten(tensor.get("name")) for tensor in dicts(tensors, "inputs"))
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
        found = replace(self, input_name=name, datatype=datatype)
        return replace(found, output_name=_only_output(document)) if self.unnamed else found

    def extended(self, body: bytes | bytearray) -> OpenInference:
        """This protocol with bytes for tensors, where the server's description of itself lists that extension."""
        document = parse_json(body)
        extensions = document.get("extensions") if isinstance(document, dict) else None
        return replace(self, binary=isinstance(extensions, list) and EXTENSION in extensions)

    def _encode(self, inputs: Tensor) -> Request:
        datatype = self.datatype or "FP32"
        if "INT" in datatype and self.inputs.convention.bounds == (0, 1):
            raise UsageError(f"the model takes {datatype}, which cannot hold 0..1; set input.range to [0, 255]")
        if datatype == "BF16" and not self.binary:
            raise UsageError("the model takes BF16, which JSON does not hold; set http.binary = true")
        values = fitting(self.inputs.encode(inputs), datatype)
        tensor: dict[str, Any] = {"name": self.input_name or "input", "shape": list(values.shape), "datatype": datatype}
        request: dict[str, Any] = {"inputs": [tensor]}
        wanted: dict[str, Any] = {"classification": self.classification} if self.classification else {}
        if self.binary and not self.classification:  # its texts are no larger in JSON
            wanted = {"binary_data": True}
        if self.output_name:
            request["outputs"] = [{"name": self.output_name} | ({"parameters": wanted} if wanted else {})]
        elif wanted == {"binary_data": True}:
            request["parameters"] = {"binary_data_output": True}
        if not self.binary:
            tensor["data"] = values.ravel().tolist()
            return Request.of_json(request)
        data = values.tobytes()
        tensor["parameters"] = {"binary_data_size": len(data)}
        head = json.dumps(request, separators=(",", ":")).encode()
        kinds = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream, application/json"}
        return Request(head + data, kinds | {HEADER: str(len(head))})

    def _read(self, body: bytes | bytearray, count: int, json_length: str | None) -> Tensor:
        if json_length is None:
            return self._decode(parse_json(body), count)
        head, rest = parts(body, json_length)
        document = parse_json(head)
        outputs = dicts(member(document, "outputs"), "outputs")
        held = raw(outputs, rest)
        return self._output(outputs, held, count)

    def _decode(self, document: Any, count: int) -> Tensor:
        outputs = dicts(member(document, "outputs"), "outputs")
        return self._output(outputs, [None] * len(outputs), count)

    def _output(self, outputs: list[dict[str, Any]], held: list[memoryview | None], count: int) -> Tensor:
        """The answers in the one output that is meant, whose bytes may be among those ``held``."""
        chosen = [place for place, tensor in enumerate(outputs) if self.output_name in ("", tensor.get("name"))]
        if len(chosen) != 1:
            names = ", ".join(shorten(tensor.get("name")) for tensor in outputs) or "none"
            raise OracleError(f"there are several outputs or none of the name asked for ({names}); name one output")
        tensor, data = outputs[chosen[0]], held[chosen[0]]
        shape = tensor.get("shape")
        if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
            raise OracleError("an output has no shape")
        width = self._width(tensor, count)
        if data is None:
            values = _flattened(tensor.get("data"), len(shape))
        else:
            values = numbers(data, tensor.get("datatype"), count * width)
        if len(values) != count * width:
            raise OracleError(f"the answer has {len(values)} values; its shape says {count * width}")
        if tensor.get("datatype") == "BOOL":  # marks of classes
            values = [int(value) if isinstance(value, bool) else value for value in values]
        rows = [values[start : start + width] for start in range(0, len(values), width)]
        plain = self.outputs.access is Access.LABELS and width == 1
        return self.outputs.decode(values if plain else rows, count)

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


def _only_output(document: dict[str, Any]) -> str:
    outputs = dicts(document.get("outputs") or [], "outputs")
    if len(outputs) != 1 or not isinstance(name := outputs[0].get("name"), str) or not name:
        names = ", ".join(shorten(tensor.get("name")) for tensor in outputs) or "none"
        raise OracleError(f"classification is asked of one output, and the model gives {names}; set http.output_name")
    return name


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
