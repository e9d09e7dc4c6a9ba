"""Initialisers of ONNX graphs: the numbers of a model, whose graph is neither checked nor run.

The file is walked message by message, so that numbers stay on disk until they are read; the package reads what is
small. A matrix keeps the orientation that the exporter gave it: [in, out] for MatMul, [out, in] for Gemm with transB.
Format: Protocol Buffers' wire encoding, and ``onnx.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from whorl.checkpoints.checkpoint import Checkpoint, Entry, Place, contained, read_config
from whorl.errors import InvalidFile, MissingExtra, WhorlError
from whorl.storage import check_size, one_line

__all__ = ["OnnxCheckpoint"]

GRAPH: Final = 7  # of a model
INITIALIZER: Final = 5  # of a graph
SPARSE: Final = 15
NUMBERS: Final = frozenset({4, 5, 6, 7, 10, 11})  # of a tensor: one list for each kind of number
RAW: Final = 9  # of a tensor: all its bytes
WORDY: Final = 12  # of a tensor: its documentation
EXTERNAL: Final = 1
MAX_FIELDS: Final = 5_000_000
MAX_ABOUT: Final = 1 << 20
TYPES: Final = {
    "FLOAT": torch.float32,
    "DOUBLE": torch.float64,
    "FLOAT16": torch.float16,
    "BFLOAT16": torch.bfloat16,
    "FLOAT8E4M3FN": torch.float8_e4m3fn,
    "FLOAT8E5M2": torch.float8_e5m2,
    "INT64": torch.int64,
    "INT32": torch.int32,
    "INT16": torch.int16,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "BOOL": torch.bool,
}


class _Field(NamedTuple):
    number: int
    first: int  # of the field with its tag
    start: int  # of what it holds
    end: int


class OnnxCheckpoint(Checkpoint):
    """One ``.onnx`` file, with its weights inside or in other files of its folder.

    Raises:
        MissingExtra: the package ``onnx`` is not installed.
        UsageError: a file is missing.
        InvalidFile: damaged, untrue, with weights outside of its folder, or of a type that is not read.
    """

    format: ClassVar[str] = "onnx"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    def __init__(self, path: Path) -> None:
        self._whole: dict[str, Place] = {}  # tensors whose numbers are lists: the place of the message
        self._raw: dict[str, Place] = {}
        entries: dict[str, Entry] = {}
        size = check_size(path, 1 << 62)
        try:
            import onnx
        except ImportError:
            raise MissingExtra(f"reading {path.name}", "onnx") from None
        try:
            with path.open("rb") as file:
                wire = _Wire(file)
                for start, end in _initialisers(wire, size):
                    about, bulk = _about(wire, start, end)
                    name, entry, raw = _entry(path, onnx.TensorProto.FromString(about), bulk)
                    if name in entries:
                        raise ValueError(f"two initialisers {name[:100]!r}")
                    entries[name] = entry
                    (self._raw if raw else self._whole)[name] = raw or Place(path, start, end - start)
        except WhorlError:
            raise
        except Exception as error:  # protobuf's DecodeError is not importable in every version
            raise InvalidFile(f"{path} is not a whole ONNX file: {one_line(error)}") from None
        super().__init__(path, entries, read_config(path.parent))

    def _stored(self, name: str, rows: Sequence[int] | None) -> Tensor:
        entry = self.entries[name]
        if place := self._raw.get(name):
            buffer = place.read(rows, *entry.shape[:1])
            self.bytes_read += len(buffer)
            shape = entry.shape if rows is None else (len(rows), *entry.shape[1:])
            kind = TYPES[entry.dtype]
            return torch.frombuffer(buffer, dtype=kind).reshape(shape) if buffer else torch.empty(shape, dtype=kind)
        buffer = self._whole[name].read()
        self.bytes_read += len(buffer)
        value = _listed(self.path, name, bytes(buffer))
        return value if rows is None else value[list(rows)]


class _Wire:
    """The fields of one message after the other, without reading what they hold."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._count = file, 0

    def fields(self, start: int, end: int) -> Iterator[_Field]:
        """Every field between two places."""
        at = start
        while at < end:
            first, self._count = at, self._count + 1
            if self._count > MAX_FIELDS:
                raise ValueError(f"more than {MAX_FIELDS:,} fields")
            tag, at = self._number(at)
            kind = tag & 7
            if kind == 0:
                begin, (_, at) = at, self._number(at)
            elif kind in (1, 5):
                begin, at = at, at + (8 if kind == 1 else 4)
            elif kind == 2:
                length, begin = self._number(at)
                at = begin + length
            else:
                raise ValueError(f"a field of the wire type {kind}")
            if at > end:
                raise ValueError("it ends too early")
            yield _Field(tag >> 3, first, begin, at)

    def bytes(self, start: int, end: int) -> bytes:
        """What lies between two places."""
        self._file.seek(start)
        return self._file.read(end - start)

    def _number(self, at: int) -> tuple[int, int]:
        """A varint, and the place after it."""
        self._file.seek(at)
        value = 0
        for place, byte in enumerate(self._file.read(10)):
            value |= (byte & 127) << 7 * place
            if byte < 128:
                return value, at + place + 1
        raise ValueError("it ends within a number")


def _initialisers(wire: _Wire, size: int) -> list[tuple[int, int]]:
    """Where the tensors of the main graph lie."""
    graphs = [(field.start, field.end) for field in wire.fields(0, size) if field.number == GRAPH]
    fields = [field for start, end in graphs for field in wire.fields(start, end)]
    if any(field.number == SPARSE for field in fields):
        raise ValueError("it holds sparse initialisers, which are not read")
    return [(field.start, field.end) for field in fields if field.number == INITIALIZER]


def _about(wire: _Wire, start: int, end: int) -> tuple[bytes, list[_Field]]:
    """A tensor's message without its numbers, and the fields with its numbers."""
    small, bulk, length = [], [], 0
    for field in wire.fields(start, end):
        if field.number in NUMBERS or field.number == RAW:
            bulk.append(field)
        elif field.number != WORDY:
            length += field.end - field.first
            if length > MAX_ABOUT:
                raise ValueError(f"a tensor with more than {MAX_ABOUT:,} bytes beside its numbers")
            small.append(wire.bytes(field.first, field.end))
    return b"".join(small), bulk


def _entry(path: Path, about: Any, bulk: list[_Field]) -> tuple[str, Entry, Place | None]:
    """Name and entry of a tensor, and where its bytes lie, `None` where its numbers are listed instead."""
    import onnx

    name, shape = str(about.name), tuple(about.dims)
    word = onnx.TensorProto.DataType.Name(about.data_type)
    if word not in TYPES:
        raise ValueError(f"{name[:100]!r} has the type {word}, which is not read")
    if any(axis < 0 for axis in shape):
        raise ValueError(f"{name[:100]!r} has the shape {shape}")
    size = prod(shape) * TYPES[word].itemsize
    raws = [field for field in bulk if field.number == RAW]
    if about.data_location == EXTERNAL:
        return name, Entry(shape, word, size), _outside(path, about, size)
    if not raws and size:
        listed = sum(field.end - field.start for field in bulk)
        if prod(shape) > listed:  # a number takes a byte at least
            raise ValueError(f"{name[:100]!r} is {shape} and holds {listed:,} bytes")
        return name, Entry(shape, word, listed), None
    start, end = (raws[-1].start, raws[-1].end) if raws else (0, 0)
    if end - start != size:
        raise ValueError(f"{name[:100]!r} takes {end - start:,} bytes, which its shape {shape} denies")
    return name, Entry(shape, word, size), Place(path, start, size)


def _outside(path: Path, about: Any, size: int) -> Place:
    """Where numbers lie in another file of the same folder."""
    said = {entry.key: entry.value for entry in about.external_data}
    file = contained(path.parent, said.get("location"))
    start, length = int(said.get("offset", "0")), int(said.get("length", str(size)))
    if start < 0 or length != size or start + length > file.stat().st_size:
        raise ValueError(f"{about.name[:100]!r} lies beyond the end of {file.name}, or its shape is untrue")
    return Place(file, start, size)


def _listed(path: Path, name: str, message: bytes) -> Tensor:
    """A tensor whose message lists its numbers."""
    import onnx
    from onnx import numpy_helper

    try:
        value = numpy_helper.to_array(onnx.TensorProto.FromString(message))
        if value.dtype.kind not in "fiub" or value.dtype == np.uint16:  # halves and eighths that numpy does not have
            value = value.astype(np.float32)
        return torch.from_numpy(np.array(value))
    except Exception as error:  # whatever protobuf or numpy find wrong
        raise InvalidFile(f"{path}: {name[:100]!r} is damaged: {one_line(error)}") from None
