"""Weights of ONNX graphs, initialisers and constants: the numbers of a model, whose graph is not run.

The file is walked message by message, so that numbers stay on disk until they are read; the package reads what is
small. A matrix is presented as PyTorch's layers hold it, [out, in], and integers as the numbers that they stand for:
`whorl.checkpoints.readers.onnx_graph` finds both out. Format: Protocol Buffers' wire encoding, and ``onnx.proto``.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, NamedTuple

import torch
from torch import Tensor

from whorl.checkpoints.checkpoint import Checkpoint, Place, TensorEntry, check_entries, read_config
from whorl.checkpoints.readers.onnx_graph import Node, Use, uses
from whorl.checkpoints.readers.onnx_numbers import INTEGERS, TYPES, listed, nbytes, scaled, unpacked
from whorl.errors import InvalidFile, MissingExtra, WhorlError
from whorl.storage import check_size, contained, not_whole

__all__ = ["OnnxCheckpoint"]

GRAPH: Final = 7  # of a model
FUNCTION: Final = 25
NODES: Final = 1  # of a graph
FUNCTION_NODES: Final = 7
INITIALIZER: Final = 5
SPARSE: Final = 15
ATTRIBUTE: Final = 5  # of a node
TENSORS: Final = frozenset({5, 10})  # of an attribute
GRAPHS: Final = frozenset({6, 11})
SPARSES: Final = frozenset({22, 23})
NUMBERS: Final = frozenset({4, 5, 6, 7, 10, 11})  # of a tensor: one list for each kind of number
RAW: Final = 9  # of a tensor: all its bytes
WORDY: Final = 12  # of a tensor: its documentation
EXTERNAL: Final = 1
WHOLE: Final = frozenset({"INT32", "INT64"})  # types of shapes, axes and places
MAX_FIELDS: Final = 5_000_000
MAX_ABOUT: Final = 1 << 20
MAX_NODES: Final = 1_000_000
MAX_WORDS: Final = 1 << 28  # bytes of all nodes together
MAX_DEPTH: Final = 64  # branches inside of branches


class _Field(NamedTuple):
    number: int
    first: int  # of the field with its tag
    start: int  # of what it holds
    end: int


class OnnxCheckpoint(Checkpoint):
    """One ``.onnx`` file, with its weights inside or in other files of its folder.

    Constants of one number, and whole ones (shapes, axes, places), are no weights and left out.

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
        self._held: dict[str, TensorEntry] = {}  # by their names in the file, as they lie in it
        self._settings: set[str] = set()
        self.path = path
        size = check_size(path, 1 << 62)
        if importlib.util.find_spec("onnx") is None:
            raise MissingExtra(f"reading {path.name}", "onnx")
        try:
            with path.open("rb") as file:
                graph = self._walk(_Wire(file), size)
            check_entries(path, self._held)  # before anything is made of their shapes
            shapes = {name: entry.shape for name, entry in self._held.items()}
            found = uses(graph, shapes, {name for name, entry in self._held.items() if entry.dtype in INTEGERS})
            pairs = [(name, use) for name, held in found.items() for use in held]
            self._uses = {use.name: (name, use) for name, use in pairs}
            parts = {each for _, use in pairs if use.scale for each in use.scale.tensors} | self._settings
            entries = {use.name: self._presented(name, use) for name, use in pairs if name not in parts}
        except WhorlError:
            raise
        except Exception as error:  # protobuf's DecodeError is not importable in every version
            raise not_whole(path, "ONNX file", error) from None
        super().__init__(path, entries, read_config(path.parent))

    def _walk(self, wire: _Wire, size: int) -> list[Node]:
        """The nodes of the graph, once its tensors have been noted."""
        import onnx

        graph, again = _walked(wire, size), Counter[str]()
        for start, end, constant in graph.tensors:
            about, bulk = _about(wire, start, end)
            described = onnx.TensorProto.FromString(about)
            if constant and described.data_type == onnx.TensorProto.STRING:
                continue
            name, entry, raw = _entry(self.path, described, bulk)
            name = constant or name
            if name in self._held and (constant or start in graph.branched):  # two branches may have it each
                again[name] += 1
                name = f"{name} #{again[name] + 1}"
            if name in self._held:
                raise ValueError(f"two tensors {name[:100]!r}")
            self._held[name] = entry
            (self._raw if raw else self._whole)[name] = raw or Place(self.path, start, end - start)
            if constant and (entry.dtype in WHOLE or prod(entry.shape) < 2):
                self._settings.add(name)
        return graph.nodes

    def _presented(self, name: str, use: Use) -> TensorEntry:
        """What a tensor is once it is turned and scaled. Raises `ValueError` for scales that do not fit it."""
        entry = self._held[name]
        word, size, shape = entry.dtype, entry.nbytes, entry.shape
        if use.gates:
            size //= shape[0]
        if use.scale:
            shape = tuple(scaled(word, shape, use.scale, self._read(use, shape, self._hollow), None).shape)
            size += sum(self._held[part].nbytes for part in use.scale.tensors)
            word = f"{word if shape == entry.shape else f'UINT{use.scale.bits}'} scaled"
        shape = shape[1:] if use.gates else shape
        return TensorEntry(shape[::-1] if use.turned else shape, word, size)

    def _hollow(self, name: str) -> Tensor:
        """A tensor of the file without its numbers."""
        entry = self._held[name]
        return torch.empty(entry.shape, dtype=TYPES[entry.dtype], device="meta")

    def _stored(self, name: str, rows: Sequence[int] | None) -> Tensor:
        own, use = self._uses[name]
        if not (use.turned or use.scale or use.gates):
            return self._numbers(own, rows)
        value = self._numbers(own, [use.direction] if use.gates and not use.scale else None)
        if use.scale:
            entry = self._held[own]
            read = self._read(use, entry.shape, lambda part: self._numbers(part, None))
            try:
                value = scaled(entry.dtype, entry.shape, use.scale, read, value)
            except ValueError as error:
                raise InvalidFile(f"{self.path}: {name[:100]!r}: {error}") from None
        if use.gates:
            value = value[use.direction if use.scale else 0]
        value = value.T.contiguous() if use.turned else value
        if use.gates:
            value = value.unflatten(0, (len(use.gates), -1))[list(use.gates)].flatten(0, 1)
        return value if rows is None else value[list(rows)]

    @staticmethod
    def _read(use: Use, shape: tuple[int, ...], read: Callable[[str], Tensor]) -> Callable[[str], Tensor]:
        """What gives the scales of a tensor; those of a recurrent layer as many as it has columns, by direction."""
        if not use.gates:
            return read
        return lambda part: read(part).reshape(shape[0], 1, -1).expand(shape[0], 1, shape[2])

    def _numbers(self, name: str, rows: Sequence[int] | None) -> Tensor:
        """A tensor as it lies in the file."""
        entry = self._held[name]
        if (place := self._raw.get(name)) and entry.nbytes == prod(entry.shape) * TYPES[entry.dtype].itemsize:
            buffer = place.read(rows, *entry.shape[:1])
            self.bytes_read += len(buffer)
            return unpacked(buffer, entry.dtype, entry.shape if rows is None else (len(rows), *entry.shape[1:]))
        buffer = (place or self._whole[name]).read()
        self.bytes_read += len(buffer)
        value = unpacked(buffer, entry.dtype, entry.shape) if place else listed(self.path, name, bytes(buffer))
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


@dataclass
class _Graph:
    """All nodes but those of functions; and where tensors lie, each with its name where it has none of its own.

    ``branched`` are the places of those that a branch holds, whose names are its own.
    """

    nodes: list[Node] = field(default_factory=list[Node])
    tensors: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])
    branched: set[int] = field(default_factory=set[int])
    words: int = 0


def _walked(wire: _Wire, size: int) -> _Graph:
    """Nodes and tensors of the main graph, of its branches, and constants of functions."""
    graph = _Graph()
    for whole in wire.fields(0, size):
        if whole.number == GRAPH:
            _walk(wire, whole, graph, 0)
        elif whole.number == FUNCTION:
            apart = _Graph()  # names in a function are its own
            for each in wire.fields(whole.start, whole.end):
                if each.number == FUNCTION_NODES:
                    _node(wire, each, apart, 0)
            taken = {name for _, _, name in graph.tensors}
            graph.tensors += [each for each in apart.tensors if each[2] and each[2] not in taken]
    return graph


def _walk(wire: _Wire, whole: _Field, graph: _Graph, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"graphs inside of graphs, more than {MAX_DEPTH} deep")
    for each in wire.fields(whole.start, whole.end):
        if each.number == INITIALIZER:
            graph.tensors.append((each.start, each.end, ""))
            graph.branched |= {each.start} if depth else set()
        elif each.number == SPARSE:
            raise ValueError("it holds sparse initialisers, which are not read")
        elif each.number == NODES:
            _node(wire, each, graph, depth)


def _node(wire: _Wire, whole: _Field, graph: _Graph, depth: int) -> None:
    """A node without its tensors and graphs, and where these lie."""
    import onnx

    small: list[bytes] = []
    held: list[_Field] = []
    for each in wire.fields(whole.start, whole.end):
        inner = list(wire.fields(each.start, each.end)) if each.number == ATTRIBUTE else []
        bulk = [part for part in inner if part.number in TENSORS | GRAPHS | SPARSES]
        held += bulk
        if not bulk:
            graph.words += each.end - each.first
            if graph.words > MAX_WORDS or each.end - each.first > MAX_ABOUT:
                raise ValueError(f"nodes with more than {MAX_ABOUT:,} bytes, or {MAX_WORDS:,} together")
            small.append(wire.bytes(each.first, each.end))
    proto = onnx.NodeProto.FromString(b"".join(small))
    numbers = {each.name: each.i for each in proto.attribute if each.type == onnx.AttributeProto.INT}
    graph.nodes.append(Node(proto.name, proto.op_type, tuple(proto.input), tuple(proto.output), numbers))
    if len(graph.nodes) > MAX_NODES:
        raise ValueError(f"more than {MAX_NODES:,} nodes")
    made = proto.output[0] if proto.output else proto.name
    for place, part in enumerate(held):
        if part.number in GRAPHS:
            _walk(wire, part, graph, depth + 1)
        elif part.number in TENSORS:
            graph.tensors.append((part.start, part.end, f"{made}/{place}" if place else made))
        else:
            raise ValueError("it holds sparse constants, which are not read")


def _about(wire: _Wire, start: int, end: int) -> tuple[bytes, list[_Field]]:
    """A tensor's message without its numbers, and the fields with its numbers."""
    small, bulk, length = [], [], 0
    for each in wire.fields(start, end):
        if each.number in NUMBERS or each.number == RAW:
            bulk.append(each)
        elif each.number != WORDY:
            length += each.end - each.first
            if length > MAX_ABOUT:
                raise ValueError(f"a tensor with more than {MAX_ABOUT:,} bytes beside its numbers")
            small.append(wire.bytes(each.first, each.end))
    return b"".join(small), bulk


def _entry(path: Path, about: Any, bulk: list[_Field]) -> tuple[str, TensorEntry, Place | None]:
    """Name and entry of a tensor, and where its bytes lie, `None` where its numbers are listed instead."""
    import onnx

    name, shape = str(about.name), tuple(about.dims)
    word = onnx.TensorProto.DataType.Name(about.data_type)
    if word not in TYPES:
        raise ValueError(f"{name[:100]!r} has the type {word}, which is not read")
    if any(axis < 0 for axis in shape):
        raise ValueError(f"{name[:100]!r} has the shape {shape}")
    size = nbytes(word, shape)
    raws = [field for field in bulk if field.number == RAW]
    if about.data_location == EXTERNAL:
        return name, TensorEntry(shape, word, size), _outside(path, about, size)
    if not raws and size:
        held = sum(field.end - field.start for field in bulk)
        if min(size, prod(shape)) > held:  # a number takes a byte at least, or two or four of them do
            raise ValueError(f"{name[:100]!r} is {shape} and holds {held:,} bytes")
        return name, TensorEntry(shape, word, held), None
    start, end = (raws[-1].start, raws[-1].end) if raws else (0, 0)
    if end - start != size:
        raise ValueError(f"{name[:100]!r} takes {end - start:,} bytes, which its shape {shape} denies")
    return name, TensorEntry(shape, word, size), Place(path, start, size)


def _outside(path: Path, about: Any, size: int) -> Place:
    """Where numbers lie in another file of the same folder."""
    said = {entry.key: entry.value for entry in about.external_data}
    file = contained(path.parent, said.get("location"))
    start, length = int(said.get("offset", "0")), int(said.get("length", str(size)))
    if start < 0 or length != size or start + length > file.stat().st_size:
        raise ValueError(f"{about.name[:100]!r} lies beyond the end of {file.name}, or its shape is untrue")
    return Place(file, start, size)
