"""Tensors of GGUF files, as llama.cpp and its kin read them, unpacked one at a time.

The header is walked here and not by the package's own ``GGUFReader``, which makes array objects of every token (35
seconds and 600 MB for the vocabulary of Llama 3, here less than one) and believes every count that a file claims. The
package knows the sizes of the packed types and unpacks them. Format: ggml, ``docs/gguf.md``, versions 2 and 3.

The converter for models of the Llama kind reorders the rows of query and key within each head, from the two halves
that a rotation turns to neighbouring pairs; here the order is turned back, so that equal models have equal matrices.
Names stay those of GGUF. A gain of Gemma has had its 1 added.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from whorl.checkpoints.checkpoint import MAX_TENSORS, Checkpoint, Place, TensorEntry
from whorl.errors import InvalidFile, MissingExtra
from whorl.storage import check_size, not_whole

__all__ = ["GgufCheckpoint"]

MAX_FIELDS: Final = 100_000
MAX_STRINGS: Final = 10_000_000  # in arrays: tokens and merges
MAX_TEXT: Final = 1 << 20
MAX_NAME: Final = 1 << 16
LISTED: Final = 1024  # longer arrays, which are vocabularies, are passed over
SCALARS: Final = dict(enumerate("BbHhIif?", 0)) | {10: "Q", 11: "q", 12: "d"}
STRING: Final = 8
ARRAY: Final = 9
PLAIN: Final = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
}
# Architectures whose converter reorders the rows of query and key.
REORDERED: Final = frozenset(
    {"llama", "mistral3", "deci", "baichuan", "internlm2", "minicpm", "xverse", "olmo", "deepseek", "arctic", "arcee"}
    | {"granite", "granitemoe", "smollm3", "bailingmoe"}
)
SHARD: Final = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


class GgufCheckpoint(Checkpoint):
    """One ``.gguf`` file, or the first of several into which it was split.

    ``config`` holds the metadata as plain values, without arrays of more than 1,024 elements. Shapes are [out, in].

    Raises:
        MissingExtra: the package ``gguf`` is not installed.
        UsageError: a file is missing.
        InvalidFile: cut off, untrue, of another version, big-endian, or with a type that is not known.
    """

    format: ClassVar[str] = "gguf"
    suffixes: ClassVar[tuple[str, ...]] = (".gguf",)

    def __init__(self, path: Path) -> None:
        entries: dict[str, TensorEntry] = {}
        config: dict[str, Any] = {}
        self._places: dict[str, Place] = {}
        for file in _files(path):
            metadata, tensors = _header(file)
            config = config or metadata
            for name, entry, place in tensors:
                if name in entries:
                    raise InvalidFile(f"{path}: its files hold {name[:100]!r} twice")
                entries[name], self._places[name] = entry, place
        super().__init__(path, entries, config)
        if len(entries) < (promised := _whole(config.get("split.tensors.count"))):
            raise InvalidFile(f"{path} and its parts hold {len(entries):,} of {promised:,} tensors")

    def _stored(self, name: str, rows: Sequence[int] | None) -> Tensor:
        order = self._order(name)
        if order is None:
            return self._unpacked(name, rows)
        wanted = order if rows is None else order[list(rows)]
        if rows is None:
            return self._unpacked(name, None)[wanted]
        ascending = wanted.argsort()
        return self._unpacked(name, wanted[ascending].tolist())[ascending.argsort()]

    def _order(self, name: str) -> Tensor | None:
        """The file's row of each row of query and key, `None` where no converter reordered them."""
        arch = str(self.config.get("general.architecture", ""))
        match = re.fullmatch(r"blk\.(\d{1,5})\.attn_([qk])\.(?:weight|bias)", name)
        if match is None or arch not in REORDERED:
            return None
        layer = int(match[1])
        heads = _whole(self.config.get(f"{arch}.attention.head_count"), layer)
        if match[2] == "k":
            heads = _whole(self.config.get(f"{arch}.attention.head_count_kv"), layer) or heads
        height = self.entries[name].shape[0]
        if not heads or height % (2 * heads):
            raise InvalidFile(f"{self.path}: {heads} heads do not share the {height} rows of {name}")
        return torch.arange(height).reshape(heads, -1, 2).transpose(1, 2).reshape(-1)

    def _unpacked(self, name: str, rows: Sequence[int] | None) -> Tensor:
        import gguf

        entry = self.entries[name]
        few = rows is not None and len(entry.shape) > 1
        buffer = self._places[name].read(rows if few else None, *entry.shape[:1])
        self.bytes_read += len(buffer)
        shape = (len(rows), *entry.shape[1:]) if few and rows is not None else entry.shape
        if not buffer:
            return torch.empty(shape)
        if entry.dtype in PLAIN:
            value = torch.frombuffer(buffer, dtype=PLAIN[entry.dtype]).reshape(shape)
        else:
            packed = np.frombuffer(buffer, np.uint8).reshape(prod(shape[:-1]), -1)
            try:
                with np.errstate(all="ignore"):
                    numbers = gguf.dequantize(packed, gguf.GGMLQuantizationType[entry.dtype])
            except NotImplementedError:  # the library's answer to a type that it knows by name and cannot unpack
                raise InvalidFile(f"{self.path}: {name} has the type {entry.dtype}, which is not read") from None
            value = torch.from_numpy(numbers).reshape(shape)
        return value if few or rows is None else value[list(rows)]


def _files(path: Path) -> list[Path]:
    """The file, or all parts of what was split: name-00001-of-00003.gguf and so on."""
    if not (match := SHARD.fullmatch(path.name)):
        return [path]
    stem, _, count = match.groups()
    return [path.with_name(f"{stem}-{number:05}-of-{count}.gguf") for number in range(1, int(count) + 1)]


def _header(path: Path) -> tuple[dict[str, Any], list[tuple[str, TensorEntry, Place]]]:
    """Metadata and tensors of one file, whose every claim is held against its size."""
    try:
        import gguf
    except ImportError:
        raise MissingExtra(f"reading {path.name}", "gguf") from None
    size = check_size(path, 1 << 62)
    try:
        with path.open("rb") as file:
            words = _Words(file, size)
            metadata, claims = _walk(words)
            step = metadata.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT)
            if type(step) is not int or not 0 < step <= 1 << 20 or step & (step - 1):
                raise ValueError(f"its tensors are aligned to {step}")
            start = -(-words.at // step) * step
        tensors = [_tensor(path, claim, start, size) for claim in claims]
        _refuse_overlap([place for _, _, place in tensors])
    except (ValueError, struct.error, OSError) as error:
        raise not_whole(path, "GGUF file", error) from None
    return metadata, tensors


class _Words:
    """A file read word by word, which never promises more than the file has left."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self.at, self.strings = file, size, 0, 0

    def bytes(self, count: int) -> bytes:
        """So many bytes, which the file must have."""
        self._advance(count)
        return self._file.read(count)

    def skip(self, count: int) -> None:
        """Pass over so many bytes, which the file must have."""
        self._advance(count)
        self._file.seek(count, 1)

    def number(self, code: str) -> Any:
        """A little-endian number, as `struct` writes it."""
        return struct.unpack("<" + code, self.bytes(struct.calcsize("<" + code)))[0]

    def text(self, limit: int) -> str:
        """A text with its length before it."""
        length = self.number("Q")
        if length > limit:
            raise ValueError(f"a text of {length:,} bytes")
        return self.bytes(length).decode(errors="replace")

    def _advance(self, count: int) -> None:
        self.at += count
        if self.at > self._size:
            raise ValueError("it ends too early")


def _walk(words: _Words) -> tuple[dict[str, Any], list[tuple[str, tuple[int, ...], int, int]]]:
    """All metadata; and of each tensor its name, shape, type and offset."""
    if words.bytes(4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    version, tensors, fields = words.number("I"), words.number("Q"), words.number("Q")
    if version not in (2, 3):
        raise ValueError(f"version {version} (2 and 3, little-endian, are read)")
    if tensors > MAX_TENSORS or fields > MAX_FIELDS:
        raise ValueError(f"it claims {tensors:,} tensors and {fields:,} fields")
    metadata: dict[str, Any] = {}
    for _ in range(fields):
        key, kind = words.text(MAX_NAME), words.number("I")
        if key in metadata:
            raise ValueError(f"two fields {key[:100]!r}")
        metadata[key] = _array(words) if kind == ARRAY else _value(words, kind)
    return {key: value for key, value in metadata.items() if value is not None}, list(_claims(words, tensors))


def _value(words: _Words, kind: int) -> Any:
    if kind == STRING:
        return words.text(MAX_TEXT)
    if kind not in SCALARS:
        raise ValueError(f"a value of the unknown type {kind}")
    return words.number(SCALARS[kind])


def _array(words: _Words) -> list[Any] | None:
    """The values of an array, `None` for a long one, which is passed over."""
    kind, count = words.number("I"), words.number("Q")
    if kind != STRING and kind not in SCALARS:
        raise ValueError(f"an array of the type {kind}")
    if count <= LISTED:
        return [_value(words, kind) for _ in range(count)]
    if kind != STRING:
        words.skip(count * struct.calcsize("<" + SCALARS[kind]))
        return None
    words.strings += count
    if words.strings > MAX_STRINGS:
        raise ValueError(f"more than {MAX_STRINGS:,} texts")
    for _ in range(count):
        words.skip(words.number("Q"))
    return None


def _claims(words: _Words, count: int) -> Iterator[tuple[str, tuple[int, ...], int, int]]:
    seen: set[str] = set()
    for _ in range(count):
        name, axes = words.text(MAX_NAME), words.number("I")
        if name in seen or axes > 4:
            raise ValueError(f"{name[:100]!r} twice" if name in seen else f"{name[:100]!r} with {axes} axes")
        seen.add(name)
        shape = tuple(words.number("Q") for _ in range(axes))[::-1]
        yield name, shape, words.number("I"), words.number("Q")


def _tensor(
    path: Path, claim: tuple[str, tuple[int, ...], int, int], start: int, size: int
) -> tuple[str, TensorEntry, Place]:
    import gguf

    name, shape, kind, offset = claim
    try:
        known = gguf.GGMLQuantizationType(kind)
    except ValueError:
        raise ValueError(f"{name[:100]!r} has the unknown type {kind}") from None
    block, packed = gguf.GGML_QUANT_SIZES[known]
    if (shape[-1] if shape else 1) % block:
        raise ValueError(f"{name[:100]!r} is {shape} in blocks of {block}")
    nbytes = prod(shape) // block * packed
    if start + offset + nbytes > size:
        raise ValueError(f"{name[:100]!r} lies beyond its end")
    return name, TensorEntry(shape, known.name, nbytes), Place(path, start + offset, nbytes)


def _refuse_overlap(places: list[Place]) -> None:
    filled = sorted((place.start, place.start + place.nbytes) for place in places if place.nbytes)
    if any(second < end for (_, end), (second, _) in itertools.pairwise(filled)):
        raise ValueError("its tensors overlap")


def _whole(value: object, layer: int = 0) -> int:
    """A count of the metadata, which may have one for each layer; 0 for anything else."""
    if isinstance(value, list):
        value = value[layer] if layer < len(value) else 0
    return value if type(value) is int and 0 < value < 1 << 20 else 0
