"""ONNX graphs as oracles, run by onnxruntime on the CPU.

A graph may be hostile. Before onnxruntime sees it, it is parsed as plain data and refused if it refers to other files,
calls operators that are not onnxruntime's own, holds loops (which may never end), or is too large. What the graph says
of its answer and of its pictures is read from its nodes.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from whorl.errors import InvalidFile, MissingExtra, OracleError, Undescribed, UsageError
from whorl.oracles.base import Chunk, Oracle
from whorl.oracles.convention import GRANTS, InputConvention, Output, lower
from whorl.oracles.graph_answers import Made, made_by
from whorl.oracles.graph_choice import Answer, choose
from whorl.oracles.graph_classes import Classes, Stated, stated_by
from whorl.oracles.graph_inputs import input_top
from whorl.oracles.graph_limits import refuse_danger
from whorl.oracles.graph_rows import FLOATS, WHOLE, Given, given_to, without_maps
from whorl.oracles.graph_weights import take_in
from whorl.storage import check_size, one_line
from whorl.types import Access, Task

__all__ = ["OnnxOracle"]

MAX_BYTES: Final = (2 << 30) - 1  # protobuf's own limit
MAX_NUMBERS: Final = 1 << 26  # of one batch, whose size a file may fix: 400 pictures of 3 x 224 x 224
SLACK: Final = 1e-4  # how far outside [0, 1] a probability may be rounded


class OnnxOracle(Oracle):
    """An ONNX classifier, or a model that gives numbers, with one picture input, or one for each column of a row, and
    a batch that is free or fixed.

    Pictures have 4 axes, or 3 where they have one channel, or are rows of numbers. Answers are rows of one number a
    class, one number for two classes, or labels. Axes of size 1 beside them are dropped. Where the graph states the
    numbers of its classes, columns are put in their order. Scores are held against a label beside them, unless
    ``output_name`` names what is read; where ``access`` is LABELS, the label that the graph itself gives is read.

    Parameters:
        path: the ``.onnx`` file; weights may lie in files beside it.
        input_shape: (channels, height, width); needed where the graph leaves it open.
        classes: needed where the graph leaves it open.
        output: what the graph's answer means; by default what its nodes say, and logits where they say nothing.
        output_name: which output is the answer; needed where several could be.
        first_label: number of the first class where the graph gives labels or states them.
        class_names: what the caller calls the classes; needed where the graph gives words that it does not list.
        access: lowers what is granted; by default what ``output`` allows.
        convention: how the model wants its pictures. A range of None is taken from the graph's type and first nodes.
        columns: names of the numbers of a row, in their order. A graph with an input for each of these takes them by
            name, whatever its own order; one with inputs of other names takes them in its order.
        task: what the answers are; ``classes`` counts the numbers of a model that has no classes.
        batch: inputs per pass where the graph leaves the batch free.

    Raises:
        MissingExtra: onnxruntime is not installed.
        InvalidFile: the file is not ONNX, or not safe to run.
        UsageError: the description does not fit the graph, or the graph leaves a question open or contradicts itself.
    """

    def __init__(  # noqa: PLR0913 each is a field of `ModelDescription`
        self,
        path: str | Path,
        *,
        input_shape: tuple[int, int, int] | None = None,
        classes: int | None = None,
        output: Output | None = None,
        output_name: str | None = None,
        first_label: int = 0,
        class_names: Sequence[str] = (),
        access: Access | None = None,
        convention: InputConvention = InputConvention(),  # noqa: B008 a frozen value
        batch: int = 256,
        columns: tuple[str, ...] = (),
        task: Task = "classification",
    ) -> None:
        self._path = Path(path)
        opened = _opened(self._path)
        self._session, self._input = opened.session, opened.input.in_order_of(columns)
        self._layout = layout = convention.layout
        self._answer = choose(
            self._session.get_outputs(),
            opened.made,
            output=output,
            output_name=output_name,
            classes=classes,
            numbers=task != "classification",
            served=access is Access.LABELS and output is None,
            path=path,
        )
        self._stated = opened.stated.outputs
        told = opened.stated.of(self._answer.name, self._answer.labels, self._answer.classes, path)
        count = self._answer.classes or len(told)
        shape = input_shape or _static_shape(self._input, layout, self._path)
        _require_fit(self._input, shape, layout, self._path)
        if count == 0:
            raise UsageError(f"{path} does not say how many classes it has; give classes=")
        super().__init__(
            access=min(access or Access.WEIGHTS, GRANTS[self._answer.output]),
            input_shape=shape,
            classes=count,
            name=self._path.name,
            digest=opened.digest,
            task=task,
        )
        self._classes = Classes(
            told if task == "classification" else (),
            count,
            first_label,
            words=self._answer.words,
            names=class_names,
            model=self.name,
        )
        self.class_names = self._classes.names
        self._adapt = _ranged(convention, self._input, opened.top, self._path).adapter(shape)
        fixed = self._input.shape[0]
        self._fixed = fixed if isinstance(fixed, int) and fixed > 0 else None
        largest = max(1, MAX_NUMBERS // math.prod(shape))
        if self._fixed is not None and self._fixed > largest:
            raise UsageError(
                f"{path} takes batches of {self._fixed:,} pictures {list(shape)}, and at most {MAX_NUMBERS:,} numbers "
                "are asked at a time; export it with a free or a smaller batch"
            )
        self._batch = self._fixed or min(batch, largest)

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        for start in range(0, len(inputs), self._batch):
            chunk = inputs[start : start + self._batch]
            yield torch.arange(start, start + len(chunk)), lower(self._ask(chunk), self._answer.output, self.access)

    def _ask(self, chunk: Tensor) -> Tensor:
        """The graph's answers in whorl's form; a batch that is fixed is filled up with black pictures."""
        missing = (self._fixed or len(chunk)) - len(chunk)
        full = torch.cat([chunk, chunk.new_zeros(missing, *chunk.shape[1:])]) if missing else chunk
        with torch.inference_mode():
            adapted = self._adapt(full.float())
        given = self._shaped(adapted).contiguous().numpy()
        names = (self._answer.name, *self._answer.labels)
        try:
            answers, *labels = self._session.run(names, self._input.feed(given))
        except Exception as error:  # onnxruntime raises classes of its own that share no base
            raise OracleError(f"{self.name} can't be run: {one_line(error)}") from None
        kept = self._kept(answers, len(full))[: len(chunk)]
        if self._answer.output == "labels":
            return _labels(kept, self._classes)
        rows = _rows(kept, self._answer, self)
        if self.task == "classification":
            rows = self._classes.ordered(rows)
        for name, said in zip(self._answer.labels, labels, strict=True):
            own = self._kept(said, len(full))[: len(chunk)]
            if own.ndim != 1:
                raise OracleError(f"{self.name} gave {name} {list(own.shape)}; --set output_name names what is read")
            self._classes.hold(self._answer.name, rows, name, own, self._stated.get(name, ()))
        return rows

    def _kept(self, given: object, count: int) -> np.ndarray:
        """An output ``[count, ...]`` without axes of size 1 beside those of its answers."""
        answers = np.asarray(given)
        shape = list(answers.shape)
        if len(shape) == 3 and shape[0] == 1 and shape[1] == count:
            answers = answers[0]  # an axis before the batch
        words = answers.dtype.kind == "O" and all(isinstance(each, str) for each in answers.flat)
        if not (words or answers.dtype.kind in "fiub") or answers.shape[:1] != (count,):
            raise OracleError(f"{self.name} gave {answers.dtype} {shape} for {count} queries")
        return answers.reshape(count, *(size for size in answers.shape[1:] if size != 1))

    def _shaped(self, adapted: Tensor) -> Tensor:
        rank = len(self._input.shape)
        if rank == 2:
            return adapted.flatten(1)
        return adapted if rank == 4 else adapted.squeeze(1 if self._layout == "NCHW" else 3)


def _labels(answers: np.ndarray, classes: Classes) -> Tensor:
    """Classes ``[n]`` from labels, or from rows ``[n, classes]`` that mark one class each."""
    if answers.ndim == 2:
        top = answers == answers.max(1, keepdims=True)
        if answers.shape[1] != classes.count or not (top.sum(1) == 1).all():
            raise OracleError(f"{classes.model} gave rows that do not mark one of {classes.count} classes each")
        return classes.ordered(torch.from_numpy(top)).int().argmax(1)
    if answers.ndim != 1:
        raise OracleError(f"{classes.model} gave {answers.dtype} {list(answers.shape)} where labels are needed")
    return classes.of(answers)


def _rows(answers: np.ndarray, answer: Answer, oracle: OnnxOracle) -> Tensor:
    """Rows ``[n, classes]``; a column of one number a query stands for the second of two classes."""
    rows = torch.from_numpy(answers.astype(np.float32))
    if rows.ndim == 1 and oracle.classes == 1:
        return rows[:, None]
    column = rows.ndim == 1 and oracle.classes == 2
    if column and answer.kind == "logs":
        rows = rows.exp()
        rows = torch.stack([(1 - rows).clamp_min(torch.finfo(rows.dtype).tiny), rows], 1).log()
    elif column:
        rows = torch.stack([torch.zeros_like(rows) if answer.output == "logits" else 1 - rows, rows], 1)
    if answer.output == "probabilities" and oracle.access is not Access.LABELS:
        outside = (rows < -SLACK) | (rows > 1 + SLACK)
        if bool(outside.any()):
            raise OracleError(
                f"{oracle.name} gave {float(rows[outside][0]):g} for a probability. Export it without what follows "
                "its softmax, or say what it gives: output=logits, or output_name"
            )
    return rows


@dataclass(frozen=True)
class _Opened:
    session: Any
    digest: str  # SHA-256 of the file, and of the weights beside it, from which the session was made
    input: Given
    made: list[Made]
    top: float | None
    stated: Stated


def _opened(path: Path) -> _Opened:
    try:
        import onnx.inliner
        import onnxruntime
    except ImportError:
        raise MissingExtra(f"reading {path.name}", "onnx") from None
    check_size(path, MAX_BYTES)
    data = path.read_bytes()
    digest = hashlib.sha256(data)
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError is not importable in every version
        raise InvalidFile(f"{path} is not an ONNX file: {one_line(error)}") from None
    beside = take_in(model, path, MAX_BYTES - len(data))
    for part in beside:
        digest.update(part)
    refuse_danger(model, path)
    stated = stated_by(model.graph)  # before lists of maps, which state it, are read as rows
    if without_maps(model) or beside:
        data = model.SerializeToString()
    options = _options(onnxruntime)
    try:
        # From the bytes that were checked, not from the path, which may have changed since.
        # Without the fallback, of which onnxruntime tells on stdout: there is no other provider to fall back to.
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        # Functions of the file are written out, so that what they do is read and not what they are called.
        graph = onnx.inliner.inline_local_functions(model).graph if model.functions else model.graph
        for item in (*session.get_inputs(), *session.get_outputs()):
            _ = item.name, item.shape  # a name that is no UTF-8 shows only where it is made Python's
    except Exception as error:  # as above
        raise InvalidFile(f"{path} is refused by onnxruntime: {one_line(error)}") from None
    given = given_to(session, path)
    inputs = [name for name, _ in given.columns]
    made = made_by(graph, inputs, [item.name for item in session.get_outputs()])
    top = input_top(graph, inputs[0]) if len(inputs) == 1 else None
    return _Opened(session, digest.hexdigest(), given, made, top, stated)


def _options(onnxruntime: Any) -> Any:
    _bound_memory()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return options


@cache
def _bound_memory() -> None:
    """Give all sessions of this process one arena: a few nodes may ask for any amount, which no check can foresee."""
    import onnxruntime

    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    # Strategy 1 takes what is asked for, where the default doubles what it takes.
    arena = onnxruntime.OrtArenaCfg({"max_mem": memory_limit(), "arena_extend_strategy": 1})
    # Refused where the program that whorl runs in has registered one, which then holds for whorl too.
    with suppress(Exception):
        onnxruntime.create_and_register_allocator(place, arena)


def memory_limit() -> int:
    """Bytes that graphs may take for weights and intermediate tensors together: half of the machine's memory."""
    if not hasattr(os, "sysconf"):
        return 8 << 30
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _ranged(convention: InputConvention, given: Given, top: float | None, path: Path) -> InputConvention:
    """The convention with the range that the graph's input needs."""
    kind, (low, high) = given.type, convention.bounds
    if len(given.shape) == 2 and len(convention.std) > 1:
        return convention  # the columns of a row in their own units
    if convention.range is not None or ((convention.mean or convention.std) and kind in FLOATS and top in (None, 1)):
        if kind in WHOLE and high - low <= 2:
            raise UsageError(f"{path} takes {kind}, which cannot hold {low:g}..{high:g}; set range, as in [0, 255]")
        return convention
    if top == 255 or (top is None and kind == "tensor(uint8)"):
        found = (-128.0, 127.0) if kind == "tensor(int8)" else (0.0, 255.0)
    elif kind in FLOATS and top in (None, 1):
        return convention
    else:
        begins = "" if top is None else f", whose first nodes suit pictures up to {top:g}"
        raise UsageError(f"{path} takes {kind}{begins}; say what black and white are to it: range=[low, high]")
    if convention.mean or convention.std:
        raise UsageError(f"{path} takes pictures in 0..255, and mean and std are in units of range; set range")
    return replace(convention, range=found)


def _static_shape(given: Any, layout: str, path: Path) -> tuple[int, int, int]:
    axes = given.shape[1:]
    if len(axes) == 3 and layout == "NHWC":
        axes = [axes[2], *axes[:2]]
    if len(axes) == 2:
        axes = [1, *axes]
    if len(axes) == 1 or not all(isinstance(axis, int) and axis > 0 for axis in axes):
        raise Undescribed(
            f"{path} leaves its input open: {given.shape}; give input_shape=(channels, height, width)",
            {"input_shape": "3,32,32"},
        )
    return axes[0], axes[1], axes[2]


def _require_fit(given: Any, shape: tuple[int, int, int], layout: str, path: Path) -> None:
    expected = shape if layout == "NCHW" else (*shape[1:], shape[0])
    if len(given.shape) == 2:
        expected = (math.prod(shape),)
    elif len(given.shape) == 3:
        expected = shape[1:] if shape[0] == 1 else expected
    axes = given.shape[1:]
    if len(axes) != len(expected) or any(
        isinstance(axis, int) and axis != wanted for axis, wanted in zip(axes, expected, strict=True)
    ):
        raise UsageError(
            f"{path} takes {given.shape}, and input shape {list(shape)} with layout {layout} gives {list(expected)}; "
            "mend input_shape (channels, height, width) or layout (NCHW, NHWC)"
        )
