"""PyTorch's two formats of files: where each storage lies, so that tensors are mapped and never made.

Since PyTorch 1.6 a file is a ZIP archive of a pickle and of one uncompressed entry a storage; before, pickles in a row
and then the storages. Layout as in ``torch/serialization.py``. What is read here is what is used: no second reader
may see another file in the same bytes.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

import torch

from whorl.oracles.pickles import MAX_PICKLE, Storage, read_pickle

__all__ = ["no_storage", "read_archive", "read_part"]

MAGIC: Final = 0x1950A86A20F9469CFC6C  # of the format before PyTorch 1.6
VERSION: Final = 1001
MAX_ROW: Final = 4 << 30  # bytes of a file of that format, whose storages lie anywhere and may have to be copied
LOCAL_HEADER: Final = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field
COUNT: Final = struct.Struct("<q")


def read_archive(path: Path) -> Any:
    """The object that ``torch.save`` wrote; its tensors are views of the file, mapped privately.

    Raises:
        UnpicklingError: code, or an object that state dicts do not consist of. Nothing is run.
        Exception: a damaged file makes reading end in any error, after bounded time and memory.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        archived = file.read(4) == b"PK\x03\x04"  # how torch itself tells the two formats apart
        file.seek(0)
        if archived:
            return _archive(path, file, size)
        return _row(path, file, size)


def read_part(path: Path, start: int, length: int) -> Any:
    """The object of an archive that takes ``length`` bytes of a file from ``start`` on. Raises what the above does."""
    with path.open("rb") as file:
        return _archive(path, io.BufferedReader(_Window(file, start, length)), length, start)


class _Window(io.RawIOBase):
    """Some bytes of a file as a file of their own."""

    def __init__(self, file: IO[bytes], start: int, length: int) -> None:
        self._file, self._start, self._length, self._at = file, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        if self._at < 0:
            raise ValueError("it begins before its part of the file")
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        self._file.seek(self._start + self._at)
        read = self._file.read(max(0, min(len(buffer), self._length - self._at)))
        buffer[: len(read)] = read
        self._at += len(read)
        return len(read)


def _archive(path: Path, file: IO[bytes], size: int, begin: int = 0) -> Any:
    """The object of an archive of ``size`` bytes that lies in the file of this path from ``begin`` on."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if len(entries) < len(archive.infolist()):
            raise ValueError("two of its entries have one name")
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries.values()):
            raise ValueError("it is compressed, which torch.save never does")
        if (claimed := sum(entry.file_size for entry in entries.values())) > size:
            raise ValueError(f"it unpacks to {claimed:,} bytes, which {size:,} do not hold")
        folder = next(iter(entries), "").partition("/")[0]
        places = {name: _place(file, entry, size) for name, entry in entries.items()}

    def content(name: str, at_most: int) -> bytes:
        start, length = places[f"{folder}/{name}"]
        if length > at_most:
            raise ValueError(f"its {name} has {length:,} bytes; at most {at_most:,} are read")
        file.seek(start)
        return file.read(length)

    if f"{folder}/byteorder" in places and content("byteorder", 16) != b"little":
        raise ValueError("it was written on a big-endian machine")

    def stored(key: str) -> tuple[int, int]:
        start, length = places[f"{folder}/data/{key}"]
        return begin + start, length

    mapped = _Mapped(path, begin + size, stored)
    return read_pickle(io.BytesIO(content("data.pkl", MAX_PICKLE)), mapped.find)


def _place(file: IO[bytes], entry: zipfile.ZipInfo, size: int) -> tuple[int, int]:
    """Where the bytes of an entry begin, and how many there are."""
    file.seek(entry.header_offset)
    signature, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    start = entry.header_offset + LOCAL_HEADER.size + name + extra
    if signature != b"PK\x03\x04" or start + entry.file_size > size:
        raise ValueError("an entry lies outside of the file")
    return start, entry.file_size


class _Mapped:
    """The storages of a file, each made once; ``place`` says where a key's bytes begin and how many there are."""

    def __init__(self, path: Path, size: int, place: Callable[[str], tuple[int, int]]) -> None:
        self.whole = Storage.from_file(str(path), shared=False, nbytes=size)
        self.place = place
        self.known: dict[str, Storage] = {}

    def find(self, key: str, nbytes: int, width: int, view: Any = None) -> Storage:
        start, length = self.place(key)
        if nbytes > length:
            raise ValueError(f"a storage claims {nbytes:,} bytes and has {length:,}")
        if key not in self.known:
            mapped = self._slice(self.whole, start, length)
            # Numbers that lie across the bounds of their type can't be asked where they are.
            self.known[key] = mapped if start % width == 0 else mapped.clone()
        found = self.known[key]
        if view is None:
            return found
        _, offset, count = view
        if not (
            type(offset) is type(count) is int and 0 <= offset and 0 <= count and (offset + count) * width <= length
        ):
            raise ValueError("a view of a storage lies outside of it")
        return self._slice(found, offset * width, count * width)

    @staticmethod
    def _slice(storage: Any, start: int, length: int) -> Storage:
        part = storage[start : start + length]
        assert isinstance(part, Storage)  # which a slice always is, and a single index is not
        return part


def _row(path: Path, file: IO[bytes], size: int) -> Any:
    """The format before PyTorch 1.6: magic number, version, system, object, keys; then the storages in that order."""
    if size > MAX_ROW:
        raise ValueError(f"it has {size:,} bytes; at most {MAX_ROW:,} are read of the format before PyTorch 1.6")
    head = io.BytesIO(file.read(MAX_PICKLE))
    if read_pickle(head, no_storage) != MAGIC:
        raise ValueError("it begins otherwise than torch.save does")
    if read_pickle(head, no_storage) != VERSION:
        raise ValueError("it is of an unknown version")
    if read_pickle(head, no_storage).get("little_endian") is not True:
        raise ValueError("it was written on a big-endian machine")
    begin, widths = head.tell(), dict[str, int]()

    def noted(key: str, nbytes: int, width: int, _view: Any = None) -> Storage:
        if widths.setdefault(key, width) != width or nbytes > size:
            raise ValueError(f"a storage claims {nbytes:,} bytes of a file of {size:,}")
        return torch.UntypedStorage(nbytes, device="meta")

    # Read twice: where the storages lie is known only once the object has told how wide their numbers are.
    read_pickle(head, noted)
    keys = read_pickle(head, no_storage)
    if type(keys) is not list or len(set(keys)) < len(keys) or widths.keys() != set(keys):
        raise ValueError("the storages that it lists are not those of its tensors")
    places, start = dict[str, tuple[int, int]](), head.tell()
    for key in keys:
        file.seek(start)
        (count,) = COUNT.unpack(file.read(COUNT.size))
        places[key] = (start + COUNT.size, count * widths[key])
        start = sum(places[key])
        if count < 0 or start > size:
            raise ValueError("a storage lies outside of the file")
    head.seek(begin)
    return read_pickle(head, _Mapped(path, size, places.__getitem__).find)


def no_storage(*_: object) -> Storage:
    """Refuse a storage, for a pickle that has none beside it."""
    raise ValueError("a storage stands where there is none")
