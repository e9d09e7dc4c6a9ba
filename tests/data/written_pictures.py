"""Pictures that the tests make, encode and write themselves."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torch import Tensor

NAMES = ("ant", "bee", "cat")
PER_CLASS = 40


def noise(count: int, *, size: int | tuple[int, int] = 8, seed: int = 0) -> np.ndarray:
    """``[count, h, w, 3]`` uint8, all different."""
    height, width = (size, size) if isinstance(size, int) else size
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def encode(picture: np.ndarray, kind: str = "PNG", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims so many pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b""))]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def labelled(seed: int = 0, *, size: int | tuple[int, int] = 8) -> tuple[np.ndarray, list[int]]:
    """`PER_CLASS` pictures of each class of `NAMES`, the classes in turn."""
    count = PER_CLASS * len(NAMES)
    return noise(count, size=size, seed=seed), [row % len(NAMES) for row in range(count)]


def write(
    path: Path,
    encoded: Sequence[bytes | None],
    labels: Sequence[Any],
    *,
    columns: tuple[str, str] = ("image", "label"),
    names: object = None,
) -> str:
    """A parquet file in the Hugging Face layout; with ``names``, the metadata that the library ``datasets`` writes."""
    image, label = columns
    cells = [{"bytes": item, "path": None} for item in encoded]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({image: pa.array(cells, kind), label: pa.array(labels)})
    if names is not None:
        features = {label: {"names": names, "_type": "ClassLabel"}, image: {"_type": "Image"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=50)
    return str(path)


def write_noise(path: Path, seed: int = 0, *, size: int | tuple[int, int] = 8, **options: Any) -> str:
    pictures, labels = labelled(seed, size=size)
    return write(path, [encode(picture) for picture in pictures], labels, **options)


def keys(images: Tensor) -> set[bytes]:
    """The bytes of each picture."""
    return {picture.numpy().tobytes() for picture in images}
