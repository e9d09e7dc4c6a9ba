"""A net that was cut over several devices, one file for each: tensor parallelism (Shoeybi et al., arXiv 1909.08053).

Every file of such a folder holds the same names; a matrix is cut along its rows or its columns, and what is small
stands in all. Files say nothing of that, so it is read from shapes: a matrix whose other axis has the width of the
vectors that all files hold alike was cut along the first. Where both fit, its name tells.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Final

import torch
from torch import Tensor

from whorl.checkpoints.checkpoint import Checkpoint, TensorEntry, read_config
from whorl.errors import UsageError

__all__ = ["Ranks", "are_ranks"]

MOST: Final = 64  # files of one net
RANK: Final = re.compile(r"(.*?(?:consolidated|rank|mp|tp)\D*)(\d{1,3})(\D*)", re.DOTALL)
# Layers whose columns are cut: they read what was cut before them.
READERS: Final = re.compile(r"(.*[._])?(wo|w2|o_proj|out_proj|down_proj|c_proj|fc2|dense_4h_to_h|attention\.dense)\..*")
ROWS, COLUMNS = 0, 1


def are_ranks(files: Sequence[Path]) -> bool:
    """Whether these are all files of one net that was cut over devices, by their names alone."""
    found = [match for file in files if (match := RANK.fullmatch(file.name))]
    if not 1 < len(files) == len(found) <= MOST:
        return False
    return len({(match[1], match[3]) for match in found}) == 1 and sorted(map(_number, files)) == [*range(len(files))]


def _number(file: Path) -> int:
    match = RANK.fullmatch(file.name)
    return int(match[2]) if match else -1


class Ranks(Checkpoint):
    """Several checkpoints of one folder, each with a part of every tensor.

    Raises:
        UsageError: they hold other names or types, or how they were cut cannot be told.
    """

    format: ClassVar[str] = "ranks"

    def __init__(self, path: Path, parts: Iterable[Checkpoint]) -> None:
        self._parts = sorted(parts, key=lambda part: _number(part.path))
        first = self._parts[0]
        for part in self._parts[1:]:
            if part.entries != first.entries:
                raise UsageError(
                    f"{path} holds {len(self._parts)} files that are named as parts of one net, and {part.path.name} "
                    f"has other tensors than {first.path.name}; give one of these files"
                )
        whole = {name for name, entry in first.entries.items() if self._same(name, entry)}
        widths = Counter(first.entries[name].shape[0] for name in whole if len(first.entries[name].shape) == 1)
        width = max(widths, key=lambda size: (widths[size], size), default=0)
        self._cut = {name: None if name in whole else self._axis(path, name, width) for name in first.entries}
        entries = {name: self._joined(name, entry) for name, entry in first.entries.items()}
        super().__init__(path, entries, read_config(path), first.left_out)

    def _same(self, name: str, entry: TensorEntry) -> bool:
        """Whether all files hold the same numbers, by a few rows."""
        rows = None if not entry.shape else range(0, entry.shape[0], max(1, entry.shape[0] // 4))
        first, *others = (part.stored(name, rows) for part in self._parts)
        return all(torch.equal(first, other) for other in others)

    def _axis(self, path: Path, name: str, width: int) -> int:
        shape, count = self._parts[0].entries[name].shape, len(self._parts)
        if len(shape) == 1:
            return ROWS
        if len(shape) != 2:
            raise UsageError(f"{path}: along which axis {name} was cut over {count} files cannot be told")
        fits = {ROWS: shape[1] == width or shape[0] * count == width, COLUMNS: width in (shape[0], shape[1] * count)}
        if fits[ROWS] and fits[COLUMNS]:
            return COLUMNS if READERS.fullmatch(name) else ROWS
        if not any(fits.values()):
            raise UsageError(
                f"{path}: along which axis {name} ({list(shape)} in each of {count} files) was cut cannot be told by a "
                f"width of {width}; join the files first"
            )
        return ROWS if fits[ROWS] else COLUMNS

    def _joined(self, name: str, entry: TensorEntry) -> TensorEntry:
        axis, count = self._cut[name], len(self._parts)
        if axis is None:
            return entry
        shape = tuple(size * count if place == axis else size for place, size in enumerate(entry.shape))
        return TensorEntry(shape, entry.dtype, entry.nbytes * count)

    def _stored(self, name: str, rows: Sequence[int] | None) -> Tensor:
        axis, before = self._cut[name], sum(part.bytes_read for part in self._parts)
        height = self._parts[0].entries[name].shape[0] if axis is not None else 0
        try:
            if axis is None:
                return self._parts[0].stored(name, rows)
            if axis == COLUMNS:
                return torch.cat([part.stored(name, rows) for part in self._parts], 1)
            if rows is None:
                return torch.cat([part.stored(name) for part in self._parts])
            chosen = [
                [row - place * height for row in rows if place * height <= row < (place + 1) * height]
                for place in range(len(self._parts))
            ]
            # Where no row is asked for, the first part tells the type of none.
            asked = [(part, some) for part, some in zip(self._parts, chosen, strict=True) if some]
            return torch.cat([part.stored(name, some) for part, some in asked or [(self._parts[0], [])]])
        finally:
            self.bytes_read += sum(part.bytes_read for part in self._parts) - before
