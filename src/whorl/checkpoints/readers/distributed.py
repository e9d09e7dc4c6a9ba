"""Checkpoints that several processes wrote together: folders of ``torch.distributed.checkpoint``, as FSDP saves them.

A pickle named ``.metadata`` says how each tensor was cut and where its parts lie in the ``.distcp`` files, each part as
``torch.save`` writes one tensor. The pickle is walked as data, and what it says is believed as far as the parts fit:
every tensor is tiled by a grid of parts that lie in files of the folder. Layout as in
``torch/distributed/checkpoint/metadata.py`` and ``filesystem.py``.
"""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Final, TypeGuard

import torch
from torch import Tensor

from whorl.checkpoints.checkpoint import Checkpoint, TensorEntry, contained, read_config
from whorl.errors import InvalidFile, WhorlError
from whorl.oracles.archives import no_storage, read_part
from whorl.oracles.pickles import MAX_PICKLE, Foreign, read_pickle
from whorl.storage import check_size, not_whole

__all__ = ["DistributedCheckpoint"]

METADATA: Final = ".metadata"
ROOT: Final = "torch.distributed.checkpoint.metadata.Metadata"
TENSOR: Final = "torch.distributed.checkpoint.metadata.TensorStorageMetadata"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Part:
    """A box of a tensor, ``shape`` numbers from ``offset`` on, and where in a file it lies."""

    offset: Shape
    shape: Shape
    file: Path
    start: int
    length: int


class DistributedCheckpoint(Checkpoint):
    """A folder with ``.metadata`` and the ``.distcp`` files that it names. What is no tensor in it is passed over.

    Raises:
        UsageError: a file is missing.
        InvalidFile: damaged or untrue: parts that do not tile their tensor, lie outside of their file, or are packed.
    """

    format: ClassVar[str] = "distributed"
    whole: ClassVar[tuple[str, ...]] = (METADATA,)

    def __init__(self, path: Path) -> None:
        check_size(path / METADATA, MAX_PICKLE)
        try:
            self._parts, entries = _read(path)
        except WhorlError:
            raise
        except Exception as error:  # a damaged pickle makes reading end in anything
            raise not_whole(path / METADATA, "list of a checkpoint's parts", error) from None
        super().__init__(path, entries, read_config(path))

    def _stored(self, name: str, rows: Sequence[int] | None) -> Tensor:
        entry = self.entries[name]
        dtype = getattr(torch, entry.dtype)
        value = torch.empty(entry.shape, dtype=dtype)
        for part in self._parts[name]:
            try:
                read = read_part(part.file, part.start, part.length)
            except Exception as error:  # as above
                raise not_whole(part.file, f"part of {name}", error) from None
            if not isinstance(read, Tensor) or tuple(read.shape) != part.shape or read.dtype != dtype:
                raise InvalidFile(f"{part.file} holds another part of {name} than {METADATA} says")
            self.bytes_read += read.numel() * read.element_size()
            value[tuple(map(slice, part.offset, map(sum, zip(part.offset, part.shape, strict=True))))] = read.detach()
        return value if rows is None else value[list(rows)]


def _read(folder: Path) -> tuple[dict[str, list[_Part]], dict[str, TensorEntry]]:
    """The parts of every tensor, and what it is."""
    root = read_pickle(io.BytesIO((folder / METADATA).read_bytes()), no_storage)
    if not _is(root, ROOT):
        raise ValueError("it begins otherwise than torch.distributed.checkpoint does")
    places = _places(folder, _of(root, "storage_data"))
    parts: dict[str, list[_Part]] = {}
    entries: dict[str, TensorEntry] = {}
    for name, about in _of(root, "state_dict_metadata").items():
        if not _is(about, TENSOR):  # a number, or what else a loop keeps
            continue
        shape, dtype = _shape(_of(about, "size")), _dtype(about)
        boxes = [(_shape(_of(each, "offsets")), _shape(_of(each, "sizes"))) for each in _of(about, "chunks")]
        boxes = [box for box in boxes if 0 not in box[1]]  # of more processes than rows some have none
        _check_tiled(name, shape, boxes)
        try:
            parts[name] = [_Part(offset, size, *places[name, offset]) for offset, size in boxes]
        except KeyError:
            raise ValueError(f"nothing is said of where a part of {name[:100]!r} lies") from None
        size = prod(shape) * dtype.itemsize
        if size > (held := sum(part.length for part in parts[name])):
            raise ValueError(f"{name[:100]!r} takes {size:,} bytes, and its parts have {held:,}")
        entries[name] = TensorEntry(shape, str(dtype).removeprefix("torch."), size)
    return parts, entries


def _places(folder: Path, said: Mapping[Any, Any]) -> dict[tuple[str, Shape], tuple[Path, int, int]]:
    """File, start and length of every part, by its tensor and its offset."""
    files: dict[str, tuple[Path, int]] = {}
    found: dict[tuple[str, Shape], tuple[Path, int, int]] = {}
    taken = Counter[str]()
    for index, place in said.items():
        offset = _state(index).get("offset")
        if offset is None:  # of what is no tensor
            continue
        if _state(place).get("transform_descriptors"):
            raise ValueError("its parts are packed, which is not read")
        name = _of(place, "relative_path")
        if name not in files:
            file = contained(folder, name)
            files[name] = (file, file.stat().st_size)
        file, size = files[name]
        start, length = _of(place, "offset"), _of(place, "length")
        if not (type(start) is type(length) is int and 0 <= start and 0 < length <= size - start):
            raise ValueError(f"a part lies outside of {file.name}")
        taken[name] += length
        if taken[name] > size:  # one part, said to be many, would make any size out of a small file
            raise ValueError(f"parts of {file.name} take more bytes than it has")
        found[_of(index, "fqn"), _shape(offset)] = (file, start, length)
    return found


def _check_tiled(name: str, shape: Shape, boxes: list[tuple[Shape, Shape]]) -> None:
    """Raise `ValueError` unless the boxes are a grid that fills the shape, each place once."""
    if 0 in shape and not boxes:
        return
    cuts: list[set[int]] = [set() for _ in shape]
    for offset, size in boxes:
        if not len(offset) == len(size) == len(shape):
            raise ValueError(f"parts of {name[:100]!r} have other axes than the tensor")
        for axis, at in enumerate(offset):
            cuts[axis].add(at)
    ends = [dict(itertools.pairwise([*sorted(cut), length])) for cut, length in zip(cuts, shape, strict=True)]
    fits = all(
        at + length == end[at] for offset, size in boxes for at, length, end in zip(offset, size, ends, strict=True)
    )
    once = len({offset for offset, _ in boxes}) == len(boxes) == prod(map(len, cuts))
    if not (fits and once and all(0 in cut for cut in cuts)):
        raise ValueError(f"the parts of {name[:100]!r} do not fill it, each place once")


def _dtype(about: Foreign) -> torch.dtype:
    said: Any = _of(about, "properties")
    said = said.state[0] if isinstance(said, Foreign) and isinstance(said.state, tuple) else said
    dtype = getattr(said, "dtype", None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError("a tensor has no type")
    return dtype


def _is(value: Any, path: str) -> TypeGuard[Foreign]:
    return isinstance(value, Foreign) and value.path == path


def _state(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Foreign) or not isinstance(value.state, dict):
        raise ValueError("a part of it is missing")
    return value.state


def _of(value: Any, key: str) -> Any:
    return _state(value)[key]


def _shape(value: Any) -> Shape:
    if not isinstance(value, tuple) or not all(type(each) is int and each >= 0 for each in value):
        raise ValueError("a shape is none")
    return value
