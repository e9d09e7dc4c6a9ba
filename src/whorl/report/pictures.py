"""Fingerprint pictures beside their seeds, as PNG inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from whorl.fingerprints.files import read_fingerprint
from whorl.types import Queries

__all__ = ["Gallery", "data_uri", "gallery", "read_gallery"]

LARGEST_SIDE = 96  # pixels; what is larger is scaled down, so that a page stays small


@dataclass(frozen=True)
class Gallery:
    """The first queries of a fingerprint, each as a data URI; ``seeds`` are empty where a query has none.

    ``differences`` show query minus seed around mid-grey, multiplied by ``gain``.
    """

    queries: tuple[str, ...]
    seeds: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    gain: float = 0.0


def gallery(queries: Queries, *, most: int = 8) -> Gallery:
    """Pictures of the first ``most`` queries; of queries that ask several inputs together, the first input."""
    inputs = _pictures(queries.inputs[:most])
    seeds = queries.companions.get("seeds")
    if seeds is None or seeds.shape != queries.inputs.shape:
        return Gallery(_uris(inputs))
    seeds = _pictures(seeds[:most])
    difference = inputs - seeds
    largest = float(difference.abs().max())
    gain = 0.5 / largest if largest else 1.0
    return Gallery(_uris(inputs), _uris(seeds), _uris(0.5 + gain * difference), gain)


def read_gallery(folder: Path | None, name: str, *, most: int = 8) -> Gallery | None:
    """Pictures of a fingerprint file in a folder; None where there is none. ``name`` can't lead out of the folder.

    Raises:
        InvalidFile: the file is no sound fingerprint.
    """
    if folder is None or not name or Path(name).name != name or not (folder / name).is_file():
        return None
    return gallery(read_fingerprint(folder / name).queries, most=most)


def data_uri(picture: Tensor) -> str:
    """A picture ``[c, h, w]`` in [0, 1] as PNG: colour where c is 3, else the first channel in grey."""
    levels = picture.detach().cpu().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    pixels = levels.permute(1, 2, 0).contiguous() if len(levels) == 3 else levels[0]
    image = Image.fromarray(pixels.numpy())
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    with io.BytesIO() as file:
        image.save(file, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _pictures(inputs: Tensor) -> Tensor:
    return inputs[:, 0] if inputs.ndim == 5 else inputs


def _uris(pictures: Tensor) -> tuple[str, ...]:
    return tuple(data_uri(picture) for picture in pictures)
