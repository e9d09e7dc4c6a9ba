"""Pictures in a folder: one sub-folder a class."""

from __future__ import annotations

import hashlib
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
from whorl.storage import digest_file

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

    def content(self) -> str:
        """Digest of the names and bytes of all pictures."""
        return _content(self._root())

    def _root(self) -> Path:
        root = Path(os.path.expanduser(self.path))
        if not root.is_dir():
            raise UsageError(f"no such folder: {self.path!r}. Give one that holds a sub-folder of pictures a class.")
        return root.resolve()

    def _load(self, part: str) -> Dataset:
        images, labels, classes = _read(self._root(), self.size)
        index = distinct(images)
        index = index[divide(labels[index], part, seed=self.seed)]
        expression = str(Call("folder", kwargs=tuple(vars(self).items())))
        return Dataset(images[index], labels[index], classes, expression)


@lru_cache(maxsize=2)  # all parts come from the same files
def _read(root: Path, size: Sides) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """All pictures ``[n, 3, h, w]`` uint8, their labels ``[n]`` and the class names."""
    members = _members(root)
    if not any(members.values()):
        raise UsageError(f"{root} holds no picture in a sub-folder; needed is one sub-folder of pictures a class")
    for folder, files in members.items():
        if not files:
            raise UsageError(f"{folder} holds no picture; add some, or remove the sub-folder as it counts as a class")
        if not folder.name.isprintable():
            raise InvalidFile(f"{str(folder)!r}: a class needs a name that can be printed; rename the sub-folder")
    files = [file for chosen in members.values() for file in chosen]
    counts = torch.tensor([len(chosen) for chosen in members.values()])
    images = stack(((file, str(file)) for file in files), len(files), size=size)
    return images, torch.arange(len(members)).repeat_interleave(counts), tuple(folder.name for folder in members)


@lru_cache(maxsize=16)
def _content(root: Path) -> str:
    digest = hashlib.sha256()
    for file in (file for files in _members(root).values() for file in files):
        digest.update(bytes.fromhex(digest_file(file)) + os.fsencode(file.relative_to(root)) + b"\0")
    return digest.hexdigest()


def _members(root: Path) -> dict[Path, list[Path]]:
    """The sub-folders of ``root`` in order, each with its pictures."""
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return {folder: _pictures(folder, root) for folder in folders}


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
