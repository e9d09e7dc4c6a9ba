"""ONNX graphs as oracles, run by onnxruntime on the CPU.

A graph may be hostile. Before onnxruntime sees it, it is parsed as plain data and refused if it refers to other files,
calls operators that are not onnxruntime's own, holds loops (which may never end), or is too large.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from whorl.errors import InvalidFile, MissingExtra, OracleError, UsageError
from whorl.oracles.base import Chunk, Oracle
from whorl.oracles.convention import GRANTS, InputConvention, Output, lower
from whorl.storage import check_size, one_line
from whorl.types import Access

__all__ = ["OnnxOracle"]

MAX_BYTES: Final = (2 << 30) - 1  # protobuf's own limit
MAX_NODES: Final = 100_000
# "" and ai.onnx are the same. com.microsoft holds onnxruntime's built-in operators, which quantised models use.
DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
LOOPS: Final = frozenset({"Loop", "Scan"})
DTYPES: Final[dict[str, type[np.generic]]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}


class OnnxOracle(Oracle):
    """An ONNX classifier with one picture input and a batch that is free or fixed.

    Parameters:
        path: the ``.onnx`` file, with its weights inside.
        input_shape: (channels, height, width); needed where the graph leaves it open.
        classes: needed where the graph leaves it open.
        output: what the graph's answer means. The first output of a fitting type and rank is read.
        access: lowers what is granted; by default what ``output`` allows.
        batch: inputs per pass where the graph leaves the batch free.

    Raises:
        MissingExtra: onnxruntime is not installed.
        InvalidFile: the file is not ONNX, or not safe to run.
        UsageError: the description does not fit the graph.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        input_shape: tuple[int, int, int] | None = None,
        classes: int | None = None,
        output: Output = "logits",
        access: Access | None = None,
        convention: InputConvention = InputConvention(),  # noqa: B008 a frozen value
        batch: int = 256,
    ) -> None:
        self._path = Path(path)
        self._session, digest = _session(self._path)
        layout = convention.layout
        self._input = _only_input(self._session, self._path)
        self._output_name, found_classes = _chosen_output(self._session, output, self._path)
        shape = input_shape or _static_shape(self._input, layout, self._path)
        classes = classes or found_classes
        if classes is None:
            raise UsageError(f"{path} does not say how many classes it has; give classes=")
        super().__init__(
            access=min(access or Access.WEIGHTS, GRANTS[output]),
            input_shape=shape,
            classes=classes,
            name=self._path.name,
            digest=digest,
        )
        self._adapt = convention.adapter(shape)
        self._output: Output = output
        fixed = self._input.shape[0]
        self._fixed = fixed if isinstance(fixed, int) and fixed > 0 else None
        self._batch = self._fixed or batch
        _require_fit(self._input, shape, layout, self._path)

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        for start in range(0, len(inputs), self._batch):
            chunk = inputs[start : start + self._batch]
            yield torch.arange(start, start + len(chunk)), lower(self._ask(chunk), self._output, self.access)

    def _ask(self, chunk: Tensor) -> Tensor:
        """The graph's raw answers; a batch that is fixed is filled up with black pictures."""
        missing = (self._fixed or len(chunk)) - len(chunk)
        full = torch.cat([chunk, chunk.new_zeros(missing, *chunk.shape[1:])]) if missing else chunk
        with torch.inference_mode():
            adapted = self._adapt(full.float()).contiguous().numpy()
        dtype = DTYPES[self._input.type]
        if dtype is np.uint8:
            adapted = adapted.round().clip(0, 255)
        try:
            answers = np.asarray(self._session.run([self._output_name], {self._input.name: adapted.astype(dtype)})[0])
        except Exception as error:  # onnxruntime raises classes of its own that share no base
            raise OracleError(f"{self.name} can't be run: {one_line(error)}") from None
        if answers.dtype.kind not in "fiu" or len(answers) != len(full):
            raise OracleError(f"{self.name} gave {answers.dtype} {list(answers.shape)} for {len(full)} queries")
        kept = answers[: len(chunk)]
        return torch.from_numpy(kept.astype(np.int64 if self._output == "labels" else np.float32))


def _session(path: Path) -> tuple[Any, str]:
    """The session, and the SHA-256 of the bytes that it was made from."""
    try:
        import onnx
        import onnxruntime
    except ImportError:
        raise MissingExtra(f"reading {path.name}", "onnx") from None
    check_size(path, MAX_BYTES)
    data = path.read_bytes()
    try:
        graph = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError is not importable in every version
        raise InvalidFile(f"{path} is not an ONNX file: {one_line(error)}") from None
    _refuse_danger(graph, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        # From the bytes that were checked, not from the path, which may have changed since.
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise InvalidFile(f"{path} is refused by onnxruntime: {one_line(error)}") from None
    return session, hashlib.sha256(data).hexdigest()


def _refuse_danger(graph: Any, path: Path) -> None:
    """Walk every message of the file, subgraphs and functions included."""
    functions = {(function.domain, function.name) for function in graph.functions}
    waiting: list[Any] = [graph]
    nodes = 0
    while waiting:
        message = waiting.pop()
        kind = message.DESCRIPTOR.name
        if kind == "TensorProto" and (message.external_data or message.data_location):
            raise InvalidFile(
                f"{path} keeps weights in another file ({one_line(ValueError(message.name), 60)}), which is not read. "
                "Save it as one file: torch.onnx.export(..., external_data=False) or onnx.save(model, path)"
            )
        if kind == "NodeProto":
            nodes += 1
            _refuse_operator(message, functions, path)
        if nodes > MAX_NODES:
            raise InvalidFile(f"{path} has more than {MAX_NODES:,} nodes, which is more than is run")
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting.extend([value] if hasattr(value, "DESCRIPTOR") else value)


def _refuse_operator(node: Any, functions: set[tuple[str, str]], path: Path) -> None:
    if node.domain not in DOMAINS and (node.domain, node.op_type) not in functions:
        name = one_line(ValueError(f"{node.domain}:{node.op_type}"), 100)
        raise InvalidFile(f"{path} needs the custom operator {name}, whose code would have to be loaded")
    if node.op_type in LOOPS:
        raise InvalidFile(f"{path} holds the operator {node.op_type}, a loop that may never end; it is not run")


def _only_input(session: Any, path: Path) -> Any:
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in DTYPES:
        found = ", ".join(f"{one_line(ValueError(item.name), 60)} {item.type} {item.shape}" for item in inputs)
        raise UsageError(f"{path} takes {found or 'nothing'}; one input of pictures with 4 axes is needed")
    return inputs[0]


def _chosen_output(session: Any, output: Output, path: Path) -> tuple[str, int | None]:
    """Name and, where the graph says it, number of classes of the first output that can be what it is said to be."""
    if output not in GRANTS:
        raise UsageError(f"output must be one of {', '.join(GRANTS)}; it is {output!r}")
    kinds, rank = ("int",), (1, 2)
    if output != "labels":
        kinds, rank = ("float", "double"), (2,)
    for item in session.get_outputs():
        if item.type.removeprefix("tensor(").startswith(kinds) and len(item.shape) in rank:
            last = item.shape[-1]
            return item.name, last if output != "labels" and isinstance(last, int) else None
    found = ", ".join(f"{item.type} {item.shape}" for item in session.get_outputs())
    raise UsageError(f"{path} gives {found}, none of which can be {output}; give output=")


def _static_shape(given: Any, layout: str, path: Path) -> tuple[int, int, int]:
    axes = given.shape[1:] if layout == "NCHW" else [given.shape[3], *given.shape[1:3]]
    if not all(isinstance(axis, int) and axis > 0 for axis in axes):
        raise UsageError(f"{path} leaves its input open: {given.shape}; give input_shape=(channels, height, width)")
    return axes[0], axes[1], axes[2]


def _require_fit(given: Any, shape: tuple[int, int, int], layout: str, path: Path) -> None:
    expected = shape if layout == "NCHW" else (*shape[1:], shape[0])
    if any(isinstance(axis, int) and axis != wanted for axis, wanted in zip(given.shape[1:], expected, strict=True)):
        raise UsageError(
            f"{path} takes {given.shape}, and input shape {list(shape)} with layout {layout} gives {list(expected)}; "
            "mend input_shape (channels, height, width) or layout (NCHW, NHWC)"
        )
