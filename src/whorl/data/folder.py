"""Pictures in a folder: one sub-folder a class."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from whorl.data.base import Dataset, Source, divide
from whorl.data.pictures import Sides, distinct, stack
from whorl.errors import InvalidFile, UsageError
from whorl.expressions import Call
from whorl.settings import Seed

__all__ = ["Folder"]

SUFFIXES: Final = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Folder(Source):
    """Pictures below the folder ``path``, where each sub-folder is a class; the classes are its names, sorted.

    The middle of each picture is resized bilinearly to ``size``, the pixels on each side of a square or ``[height,
    width]``, in 4..512, and stored as uint8 RGB. ``seed`` chooses which pictures fall into which part. Copies of a
    picture are left out, and so are names that start with a dot or do not end as a picture's does.
    Raises `UsageError` for a missing or empty folder, `InvalidFile` for a damaged picture or a link out of the folder.
    """

    path: str
    size: Sides = 32
    seed: Seed = 0

    def _load(self, part: str) -> Dataset:
        root = Path(os.path.expanduser(self.path))
        if not root.is_dir():
            raise UsageError(f"no such folder: {self.path!r}. Give one that holds a sub-folder of pictures a class.")
        images, labels, classes = _read(root.resolve(), self.size)
        index = distinct(images)
        index = index[divide(labels[index], part, seed=self.seed)]
        expression = str(Call("folder", kwargs=tuple(vars(self).items())))
        return Dataset(images[index], labels[index], classes, expression)


@lru_cache(maxsize=2)  # all parts come from the same files
def _read(root: Path, size: Sides) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """All pictures ``[n, 3, h, w]`` uint8, their labels ``[n]`` and the class names."""
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    members = [_pictures(folder, root) for folder in folders]
    if not any(members):
        raise UsageError(f"{root} holds no picture in a sub-folder; needed is one sub-folder of pictures a class")
    for folder, files in zip(folders, members, strict=True):
        if not files:
            raise UsageError(f"{folder} holds no picture; add some, or remove the sub-folder as it counts as a class")
        if not folder.name.isprintable():
            raise InvalidFile(f"{str(folder)!r}: a class needs a name that can be printed; rename the sub-folder")
    files = [file for chosen in members for file in chosen]
    counts = torch.tensor([len(chosen) for chosen in members])
    images = stack(((file, str(file)) for file in files), len(files), size=size)
    return images, torch.arange(len(members)).repeat_interleave(counts), tuple(folder.name for folder in folders)


def _pictures(folder: Path, root: Path) -> list[Path]:
    """The picture files below one class's folder, sorted. Linked folders further down are not entered."""
    _check_link(folder, root)
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            _check_link(Path(place, name), root)
        found += [Path(place, name) for name in files if not name.startswith(".") and name.lower().endswith(SUFFIXES)]
    for file in found:
        _check_link(file, root)
        if not file.is_file():  # reading from a pipe would wait for ever
            raise InvalidFile(f"{file} is not a regular file. Replace or remove it.")
    return sorted(found)


def _check_link(path: Path, root: Path) -> None:
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        raise InvalidFile(f"{path} is a link that leaves {root}. Copy what it points to, or remove it.")
