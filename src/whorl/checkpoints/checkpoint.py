"""Named tensors on disk, read one at a time: what every file of weights looks like to the rest of this room.

Nothing is executed and nothing is kept: a reader knows names, shapes and places, and `Checkpoint.read` brings one
tensor, or some of its rows, into memory. Sizes are checked before anything is read.
"""

from __future__ import annotations

import itertools
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from whorl.errors import InvalidFile, UsageError
from whorl.layouts import finite
from whorl.storage import contained, not_whole, read_json

__all__ = [
    "MAX_ELEMENTS",
    "Checkpoint",
    "Place",
    "Rows",
    "TensorEntry",
    "UnusableTensor",
    "check_entries",
    "check_promised",
    "read_config",
    "shards",
]

MAX_TENSORS: Final = 1_000_000
MAX_ELEMENTS: Final = 1 << 33  # of one tensor: an embedding of 500,000 tokens by 16,000 axes
MAX_AXES: Final = 64  # torch's own limit
MAX_NAME: Final = 1000
MAX_CONFIG: Final = 4 << 20
QUANTISED: Final = re.compile(r"(?:I?Q|TQ|MXFP|NVFP|GPTQ|AWQ)\d.*|.* scaled")
WHOLE: Final = ("i", "u", "bool")  # how the words of types begin, in any format
Rows = slice | Sequence[int]


@dataclass(frozen=True)
class TensorEntry:
    """What a file says of a tensor. ``dtype`` is the file's own word, as in ``BF16``, ``Q4_K`` or ``UINT8 scaled``."""

    shape: tuple[int, ...]
    dtype: str
    nbytes: int

    @property
    def quantised(self) -> bool:
        """Whether the file states that its numbers are integers, or eighths, times scales."""
        return QUANTISED.fullmatch(self.dtype) is not None

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers or truth values, which count and point and are no weights."""
        return not self.quantised and self.dtype.lower().startswith(WHOLE)


@dataclass(frozen=True)
class Place:
    """Where the bytes of a tensor lie. They are read, not mapped: a file that shrinks is an error and not a crash."""

    file: Path
    start: int
    nbytes: int

    def read(self, rows: Sequence[int] | None = None, height: int = 1) -> bytearray:
        """All bytes, or those of ``rows`` out of ``height`` equal ones. Raises `InvalidFile` where some are missing."""
        wide = self.nbytes // max(height, 1)
        runs = [(0, self.nbytes)] if rows is None else [(first * wide, count * wide) for first, count in _runs(rows)]
        buffer = bytearray(sum(length for _, length in runs))
        view, done = memoryview(buffer), 0
        with self.file.open("rb", buffering=0) as file:
            for first, length in runs:
                file.seek(self.start + first)
                while length and (count := file.readinto(view[done : done + length])):
                    done, length = done + count, length - count
        if done != len(buffer):
            raise InvalidFile(f"{self.file} was cut off while it was read")
        return buffer


class Checkpoint(ABC):
    """A set of named tensors in one file or folder.

    ``entries`` are in the order of their names; ``config`` is the model's own description (``config.json``, or the
    metadata of a GGUF file), empty where there is none; ``left_out`` are tensors of the files that are not read at all,
    with the reason; ``bytes_read`` counts the bytes of tensors that were read, as often as they were. Several threads
    may read at once; one waits for the other.
    """

    format: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Of its files."""
    whole: ClassVar[tuple[str, ...]] = ()
    """Names of files that make a folder one checkpoint, in the order of preference."""
    gathers: ClassVar[bool] = False
    """Whether all its files in a folder are one checkpoint."""

    def __init__(
        self,
        path: Path,
        entries: Mapping[str, TensorEntry],
        config: Mapping[str, Any],
        left_out: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        if left_out and not entries:
            first = next(iter(left_out))
            raise InvalidFile(f"{path} holds no tensor that can be used: {first[:100]!r} is {left_out[first]}")
        check_entries(path, entries)
        self.left_out = left_out
        self.path = path
        self.entries = dict(sorted(entries.items()))
        self.config = config
        self.bytes_read = 0
        self._reading = threading.Lock()

    def __repr__(self) -> str:
        return f"<{self.format} {self.path}: {len(self.entries)} tensors, {self.parameters:,} parameters>"

    @property
    def parameters(self) -> int:
        """How many numbers the tensors hold."""
        return sum(prod(entry.shape) for entry in self.entries.values())

    @property
    def nbytes(self) -> int:
        """What the tensors take on disk."""
        return sum(entry.nbytes for entry in self.entries.values())

    def read(self, name: str, rows: Rows | None = None) -> Tensor:
        """A tensor as float32, or the chosen rows (places on its first axis, ascending).

        Raises:
            UsageError: no such tensor, or rows out of range.
            UnusableTensor: it holds numbers that are not finite.
            InvalidFile: the file changed or is cut off.

        Where the system refuses to open the file, a `UsageError` says why.
        """
        stored = self.stored(name, rows)
        value = stored.to(torch.float32)
        if stored.dtype == torch.float64 and not finite(value):
            raise UnusableTensor(self, name)
        return value

    def stored(self, name: str, rows: Rows | None = None) -> Tensor:
        """The same in the type that the file holds; a packed type is unpacked to float32. It raises the same."""
        if name not in self.entries:
            raise UsageError(f"{self.path} holds no tensor {name!r}")
        if rows is not None:
            if not self.entries[name].shape:
                raise UsageError(f"{name} is one number and has no rows")
            rows = range(*rows.indices(self.entries[name].shape[0])) if isinstance(rows, slice) else list(rows)
            if any(after <= before for before, after in itertools.pairwise(rows)):
                raise UsageError("rows are asked for in ascending order, each once")
            if rows and not (0 <= rows[0] and rows[-1] < self.entries[name].shape[0]):
                raise UsageError(f"{name} has {self.entries[name].shape[0]} rows; {rows[-1]} was asked for")
        try:
            with self._reading:
                value = self._stored(name, rows)
        except UnusableTensor:  # under the name that it has here
            raise UnusableTensor(self, name) from None
        except OSError as error:
            raise not_whole(self.path, f"{self.format} file", error) from None
        wanted = self.entries[name].shape if rows is None else (len(rows), *self.entries[name].shape[1:])
        if tuple(value.shape) != wanted:
            raise InvalidFile(f"{self.path}: {name} is {list(value.shape)} and was said to be {list(wanted)}")
        if not finite(value):
            raise UnusableTensor(self, name)
        return value

    @abstractmethod
    def _stored(self, name: str, rows: Sequence[int] | None) -> Tensor:
        """Read it, and add to ``bytes_read``. Name and rows have been checked."""


class UnusableTensor(InvalidFile):
    """One ``tensor`` of a ``checkpoint`` holds NaN or an infinity; the others may be read."""

    def __init__(self, checkpoint: Checkpoint, tensor: str) -> None:
        super().__init__(f"{checkpoint.path}: {tensor} holds NaN or an infinity")
        self.checkpoint, self.tensor = checkpoint, tensor


def check_entries(path: Path, entries: Mapping[str, TensorEntry]) -> None:
    """Refuse a file that holds nothing or more than anybody has. Raises `InvalidFile`."""
    if not entries:
        raise InvalidFile(f"{path} holds no tensors")
    if len(entries) > MAX_TENSORS:
        raise InvalidFile(f"{path} holds {len(entries):,} tensors; at most {MAX_TENSORS:,} are read")
    for name, entry in entries.items():
        if len(name) > MAX_NAME or not name.isprintable():  # messages quote names on one line
            raise InvalidFile(f"{path} names a tensor {name[:100]!r}, which is too long or not printable")
        # Strides are products of axes, so an axis of 0 does not make the others harmless.
        if len(entry.shape) > MAX_AXES or prod(axis for axis in entry.shape if axis) > MAX_ELEMENTS:
            raise InvalidFile(
                f"{path}: {name[:100]!r} is {str(entry.shape)[:100]}; at most {MAX_ELEMENTS:,} elements in {MAX_AXES} "
                "axes are read"
            )


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A JSON object beside the weights, or an empty one. Raises `InvalidFile` for anything else."""
    if not (folder / name).is_file():
        return {}
    document = read_json(folder / name, MAX_CONFIG)
    if not isinstance(document, dict):
        raise InvalidFile(f"{folder / name} is not a JSON object")
    return document


def shards(folder: Path, index: str) -> dict[str, Path]:
    """Which file holds which tensor, as the index of a folder says. Raises `InvalidFile` for an index that is none."""
    document = read_json(folder / index)
    places = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(places, dict) or not places or len(places) > MAX_TENSORS:
        raise InvalidFile(f"{folder / index} has no weight_map")
    files = {name: contained(folder, name) for name in {str(place) for place in places.values()}}
    return {name: files[str(place)] for name, place in places.items()}


def check_promised(path: Path, promised: Mapping[str, Path], entries: Mapping[str, TensorEntry]) -> None:
    """Refuse an index that names a tensor which no shard holds. Raises `InvalidFile`."""
    if missing := sorted(promised.keys() - entries.keys()):
        raise InvalidFile(f"{path}: its index names {missing[0][:100]!r}, which none of its files holds")


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring rows joined, as (first, count): few large reads instead of many small ones."""
    first = count = 0
    for row in rows:
        if count and row == first + count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = row, 1
    if count:
        yield first, count
