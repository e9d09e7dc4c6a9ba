"""Tensors of safetensors files, in one piece or in shards, each read by its place in the file.

The library checks a file's header; the bytes are then read, not mapped, so that memory stays what one tensor takes
and a file that shrinks meanwhile is an error and not a crash. Format: 8 bytes of length, a JSON header with places
relative to its end, raw little-endian numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from whorl.errors import InvalidFile
from whorl.storage import check_size, one_line, read_json
from whorl.weights.checkpoint import Checkpoint, Entry, contained, read_config

__all__ = ["INDEX", "SafetensorsCheckpoint"]

INDEX: Final = "model.safetensors.index.json"
MAX_HEADER: Final = 100_000_000  # the format's own limit
TYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class _Place:
    file: Path
    start: int


class SafetensorsCheckpoint(Checkpoint):
    """One ``.safetensors`` file, or a folder of shards with their index.

    Raises:
        UsageError: a file or shard is missing.
        InvalidFile: a header is cut off or untrue, a type is unknown, or two shards hold one name.
    """

    format: ClassVar[str] = "safetensors"

    def __init__(self, path: Path) -> None:
        folder = path if path.is_dir() else path.parent
        entries: dict[str, Entry] = {}
        self._places: dict[str, _Place] = {}
        for file in _files(path):
            for name, entry, place in _header(file):
                if name in entries:
                    raise InvalidFile(f"{path}: two of its files hold {name[:100]!r}")
                entries[name], self._places[name] = entry, place
        super().__init__(path, entries, read_config(folder))

    def _stored(self, name: str, rows: Sequence[int] | None) -> Tensor:
        entry, place = self.entries[name], self._places[name]
        if rows is None:
            runs, shape = [(0, entry.nbytes)], entry.shape
        else:
            wide = entry.nbytes // entry.shape[0]
            runs = [(first * wide, count * wide) for first, count in _runs(rows)]
            shape = (len(rows), *entry.shape[1:])
        buffer = bytearray(sum(length for _, length in runs))
        view, done = memoryview(buffer), 0
        with place.file.open("rb", buffering=0) as file:
            for first, length in runs:
                file.seek(place.start + first)
                while length and (count := file.readinto(view[done : done + length])):
                    done, length = done + count, length - count
        if done != len(buffer):
            raise InvalidFile(f"{place.file} was cut off while it was read")
        self.bytes_read += done
        if not buffer:
            return torch.empty(shape, dtype=TYPES[entry.dtype])
        return torch.frombuffer(buffer, dtype=TYPES[entry.dtype]).reshape(shape)


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


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if (path / INDEX).is_file():
        index: Any = read_json(path / INDEX)
        places = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(places, Mapping) or not places:
            raise InvalidFile(f"{path / INDEX} has no weight_map")
        return [contained(path, name) for name in sorted({str(name) for name in places.values()})]
    return sorted(path.glob("*.safetensors"))


def _header(path: Path) -> Iterator[tuple[str, Entry, _Place]]:
    """What the library accepts as a header, with the place of each tensor."""
    size = check_size(path, 1 << 62)
    try:
        with safe_open(str(path), framework="pt"):  # checks names, types, places and the size of the file
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(MAX_HEADER, size):
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise InvalidFile(f"{path} is not a whole safetensors file: {one_line(error)}") from None
    for name, about in header.items():
        if name == "__metadata__":
            continue
        if about["dtype"] not in TYPES:
            raise InvalidFile(f"{path}: {name[:100]} has the type {about['dtype']}, which is not read")
        shape, (first, last) = tuple(about["shape"]), about["data_offsets"]
        if last - first != prod(shape) * TYPES[about["dtype"]].itemsize:
            raise InvalidFile(f"{path}: {name[:100]} takes {last - first} bytes, which its shape denies")
        yield name, Entry(shape, about["dtype"], last - first), _Place(path, 8 + length + first)
