"""Pictures from bytes that may be damaged or hostile."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import torch
from annotated_types import Ge, Le, doc
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from whorl.errors import InvalidFile, UsageError

__all__ = ["MAX_SIZE", "OwnSides", "Side", "Sides", "decode", "distinct", "stack"]

MIN_SIZE: Final = 4  # a smaller picture leaves nothing to a network that halves it twice
MAX_SIZE: Final = 512
MAX_PIXELS: Final = 50_000_000  # before decoding; 150 MB as RGB
MAX_BYTES: Final = 8 * 2**30  # of one data set in memory
FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # EPS and its like would start a program


Side = Annotated[int, Ge(MIN_SIZE), Le(MAX_SIZE)]
"""Pixels that a data set may have on a side."""
_SIDES: Final = f"a whole number from {MIN_SIZE} to {MAX_SIZE} or two as [height, width]"
Sides = Annotated[Side | tuple[Side, Side], doc(_SIDES)]
"""Pixels on each side of a square, or height and width."""
OwnSides = Annotated[Side | tuple[Side, Side] | Literal[0], doc(f"{_SIDES}, or 0")]
"""The same, or 0 for the pixels that all pictures share."""


def decode(encoded: bytes | Path, place: str, *, size: OwnSides = 0) -> np.ndarray:
    """One picture, ``[h, w, 3]`` uint8: grey and palettes become RGB, transparency is dropped.

    With a ``size``, the middle of the picture that has the proportions of ``size`` is resized to it bilinearly: one
    side is kept whole and the other one is cropped. ``place`` says in messages where the picture lies.
    Raises `InvalidFile` if it is damaged, has more than 50 million pixels, or more than 8 bits a channel.
    """
    source = io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded
    try:
        with warnings.catch_warnings():  # a damaged picture is told in one line: the error below
            warnings.simplefilter("ignore")
            with Image.open(source, formats=FORMATS) as picture:
                _check_header(picture, place)
                return _middle(picture.convert("RGB"), size)
    except InvalidFile:
        raise
    except UnidentifiedImageError:
        raise InvalidFile(f"{place} is no readable picture ({', '.join(FORMATS)}). Replace or remove it.") from None
    except Exception as error:  # a decoder that reads hostile bytes may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidFile(f"{place} is no readable picture: {reason}. Replace or remove it.") from None


def _check_header(picture: Image.Image, place: str) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise InvalidFile(
            f"{place} has {width} x {height} pixels; at most {MAX_PIXELS:,} are decoded. Make it smaller or remove it."
        )
    if picture.mode.startswith(("I", "F")):  # their conversion to RGB would clip nearly every grey level to white
        raise InvalidFile(f"{place} has more than 8 bits a channel ({picture.mode}). Save it with 8.")


def _middle(picture: Image.Image, size: OwnSides) -> np.ndarray:
    """Crop before resizing: the other order would make a picture of 1 x 50,000,000 pixels larger still."""
    height, width = (size, size) if isinstance(size, int) else size
    if not size or picture.size == (width, height):
        return np.asarray(picture)
    if picture.width * height < picture.height * width:
        across, down = float(picture.width), picture.width * height / width
    else:
        across, down = picture.height * width / height, float(picture.height)
    left, top = (picture.width - across) / 2, (picture.height - down) / 2
    box = (left, top, left + across, top + down)
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))


def stack(pictures: Iterable[tuple[bytes | Path, str]], count: int, *, size: OwnSides = 0) -> Tensor:
    """Decode ``count`` pictures, each given with its place, ``[count, 3, h, w]`` uint8.

    Raises `InvalidFile` as `decode` does, and `UsageError` if they differ in size and no ``size`` is given, or if all
    together take more than 8 GiB.
    """
    images: np.ndarray | None = None
    index = -1
    for index, (encoded, place) in enumerate(pictures):
        picture = decode(encoded, place, size=size)
        if images is None:
            images = _room(picture.shape, count, place)
        if picture.shape[:2] != images.shape[2:]:
            (height, width), (rows, columns) = picture.shape[:2], images.shape[2:]
            raise UsageError(
                f"{place} has {width} x {height} pixels where the first picture has {columns} x {rows}; "
                f"give one size to all, as in size=32"
            )
        images[index] = picture.transpose(2, 0, 1)
    if index + 1 != count:
        raise InvalidFile(f"{count} pictures were announced and {index + 1} came; make the files anew")
    return torch.from_numpy(np.empty((0, 3, 1, 1), np.uint8) if images is None else images)


def _room(shape: tuple[int, ...], count: int, place: str) -> np.ndarray:
    height, width, channels = shape
    if not all(MIN_SIZE <= side <= MAX_SIZE for side in (height, width)):
        raise UsageError(
            f"{place} has {width} x {height} pixels; without a size, a side has {MIN_SIZE} to {MAX_SIZE}. "
            f"Give one, as in size=32."
        )
    if count * height * width * channels > MAX_BYTES:
        raise UsageError(
            f"{count:,} pictures of {width} x {height} pixels take more than {MAX_BYTES >> 30} GiB; "
            f"give fewer pictures or a smaller size"
        )
    return np.empty((count, channels, height, width), np.uint8)


def distinct(images: Tensor, others: Tensor | None = None) -> Tensor:
    """Indices ``[m]`` int64, in order, of the first of each set of equal pictures that is not among ``others``.

    Without this, a picture that occurs twice could fall into two parts.

    Shape: both ``[n, c, h, w]`` uint8.
    """
    seen = set() if others is None else set(_digests(others))
    kept: list[int] = []
    for index, digest in enumerate(_digests(images)):
        if digest not in seen:
            seen.add(digest)
            kept.append(index)
    return torch.tensor(kept, dtype=torch.long)


def _digests(images: Tensor) -> Iterable[bytes]:
    return (hashlib.blake2b(picture.tobytes(), digest_size=16).digest() for picture in images.numpy())
