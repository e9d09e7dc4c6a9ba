"""A data set small enough for nets that look at 160 x 160 pixels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

__all__ = ["few_pictures", "few_rows"]


def few_pictures(root: Path, *, classes: int = 4, each: int = 10) -> str:
    """Write noisy stripes, one width a class, below ``root``; the expression of that folder as a source."""
    for number, (label, picture) in enumerate(_stripes(classes, each)):
        folder = root / "pictures" / f"stripes-{label}"
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{number}.png")
    return f'folder("{root}/pictures", size=16)'


def few_rows(*, classes: int = 4, each: int = 10) -> bytes:
    """The same as a parquet file in the layout of the Hugging Face hub."""
    images: list[dict[str, object]] = []
    labels: list[int] = []
    for label, picture in _stripes(classes, each):
        encoded = io.BytesIO()
        picture.save(encoded, "png")
        images.append({"bytes": encoded.getvalue(), "path": None})
        labels.append(label)
    file = io.BytesIO()
    pq.write_table(pa.table({"image": images, "label": labels}), file)
    return file.getvalue()


def _stripes(classes: int, each: int) -> Iterator[tuple[int, Image.Image]]:
    """Pictures of several sizes, each with its label."""
    chance = np.random.default_rng(0)
    for label in range(classes):
        for number in range(each):
            size = 16 + number % 3
            stripes = 255 * (np.arange(size) // (label + 1) % 2)
            noisy = stripes[None, :, None] * 0.5 + chance.integers(0, 128, (size, size, 3))
            yield label, Image.fromarray(noisy.astype(np.uint8))
