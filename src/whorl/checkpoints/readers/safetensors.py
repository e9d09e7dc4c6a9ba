"""Tensors of safetensors files, in one piece or in shards, each read by its place in the file.

The library checks a file's header. Format: 8 bytes of length, a JSON header with places relative to its end, raw
little-endian numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import ClassVar, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from whorl.checkpoints.checkpoint import Checkpoint, Place, TensorEntry, check_promised, read_config, shards
from whorl.errors import InvalidFile
from whorl.storage import check_size, not_whole

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


class SafetensorsCheckpoint(Checkpoint):
    """One ``.safetensors`` file, or a folder of shards with their index.

    Raises:
        UsageError: a file or shard is missing.
        InvalidFile: a header is cut off or untrue, a type is unknown, or two shards hold one name.
    """

    format: ClassVar[str] = "safetensors"
    suffixes: ClassVar[tuple[str, ...]] = (".safetensors",)
    whole: ClassVar[tuple[str, ...]] = (INDEX, "model.safetensors")
    gathers: ClassVar[bool] = True

    def __init__(self, path: Path) -> None:
        folder = path if path.is_dir() else path.parent
        promised = shards(path, INDEX) if (path / INDEX).is_file() else {}
        entries: dict[str, TensorEntry] = {}
        self._places: dict[str, Place] = {}
        for file in sorted(set(promised.values())) or _files(path):
            for name, entry, place in _header(file):
                if name in entries:
                    raise InvalidFile(f"{path}: two of its files hold {name[:100]!r}")
                entries[name], self._places[name] = entry, place
        super().__init__(path, entries, read_config(folder))
        check_promised(path, promised, entries)

    def _stored(self, name: str, rows: Sequence[int] | None) -> Tensor:
        entry = self.entries[name]
        buffer = self._places[name].read(rows, *entry.shape[:1])
        self.bytes_read += len(buffer)
        shape = entry.shape if rows is None else (len(rows), *entry.shape[1:])
        if not buffer:
            return torch.empty(shape, dtype=TYPES[entry.dtype])
        return torch.frombuffer(buffer, dtype=TYPES[entry.dtype]).reshape(shape)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    whole = path / "model.safetensors"  # other files beside it are adapters, or the same tensors under other names
    return [whole] if whole.is_file() else sorted(path.glob("*.safetensors"))


def _header(path: Path) -> Iterator[tuple[str, TensorEntry, Place]]:
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
        raise not_whole(path, "safetensors file", error) from None
    for name, about in header.items():
        if name == "__metadata__":
            continue
        if about["dtype"] not in TYPES:
            raise InvalidFile(f"{path}: {name[:100]} has the type {about['dtype']}, which is not read")
        shape, (first, last) = tuple(about["shape"]), about["data_offsets"]
        if last - first != prod(shape) * TYPES[about["dtype"]].itemsize:
            raise InvalidFile(f"{path}: {name[:100]} takes {last - first} bytes, which its shape denies")
        yield name, TensorEntry(shape, about["dtype"], last - first), Place(path, 8 + length + first, last - first)
