"""Rows of an owner's own table, as a CSV file holds them: numbers in columns, and a column with the class."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from whorl.data.base import Dataset, Source, divide
from whorl.errors import InvalidFile, UsageError
from whorl.expressions import Call
from whorl.settings import Seed
from whorl.storage import check_size, digest_file, one_line

__all__ = ["Rows"]

MAX_BYTES: Final = 1 << 28  # text; its numbers take some ten times as much while they are read
MAX_COLUMNS: Final = 10_000
MAX_CLASSES: Final = 1_000
SEPARATORS: Final = (",", ";", "\t")


@dataclass(frozen=True)
class Rows(Source):
    """Rows of the CSV file ``path``, whose first line names the columns.

    The column ``label`` (the last one by default) holds the class, a word or a number; all others hold numbers, each
    scaled from its range over all rows to [0, 1]. A row is a picture of 1 x 1 x columns. The separator is a comma, a
    semicolon or a tab, whichever divides the first line most. Rows that occur again are left out, so parts share none;
    ``seed`` chooses which rows fall into which part. A model that takes the columns in their own units is opened with
    ``units`` (`whorl.oracles.description`).

    Raises `UsageError` for a missing file or column, `InvalidFile` for a cell that is no number, with its place.
    """

    path: str
    label: str = ""
    seed: Seed = 0

    def content(self) -> str:
        """Digest of the file."""
        return digest_file(self._file())

    def units(self) -> tuple[Tensor, Tensor]:
        """The least and the largest value of each column."""
        table = _read(self._file(), self.label)
        return table.values.amin(0), table.values.amax(0)

    def _file(self) -> Path:
        file = Path(os.path.expanduser(self.path))
        check_size(file, MAX_BYTES)
        return file.resolve()

    def _load(self, part: str) -> Dataset:
        table = _read(self._file(), self.label)
        index = table.first[divide(table.labels[table.first], part, seed=self.seed)]
        low, high = self.units()
        images = ((table.values - low) / (high - low).where(high > low, 1)).float()[index, None, None]
        expression = str(Call("rows", kwargs=tuple(vars(self).items())))
        return Dataset(images, table.labels[index], table.classes, expression, features=table.columns)


@dataclass(frozen=True)
class _Table:
    values: Tensor  # [n, columns] float64
    labels: Tensor  # [n] int64
    first: Tensor  # indices of rows that are no copies of an earlier one
    columns: tuple[str, ...]
    classes: tuple[str, ...]


@lru_cache(maxsize=2)  # all parts come from the same file
def _read(file: Path, label: str) -> _Table:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return _parsed(file, stream, label)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidFile(f"{file} is no CSV file in UTF-8: {one_line(error)}") from None


def _parsed(file: Path, lines: Iterator[str], label: str) -> _Table:
    first = next(lines, "")
    separator = max(SEPARATORS, key=first.count)
    columns = [name.strip() for line in csv.reader([first], delimiter=separator) for name in line]
    if (
        not 2 <= len(columns) <= MAX_COLUMNS
        or len(set(columns)) < len(columns)
        or not all(map(str.isprintable, columns))
    ):
        raise InvalidFile(f"{file}: its first line names no 2 to {MAX_COLUMNS:,} columns that differ")
    if label and label not in columns:
        raise UsageError(f"{file} has no column {label!r}; it has {', '.join(columns)[:300]}")
    place = columns.index(label) if label else len(columns) - 1
    del columns[place]
    values: list[list[float]] = []
    words: list[str] = []
    for number, row in enumerate(csv.reader(lines, delimiter=separator), 2):
        if not row:
            continue
        if len(row) != len(columns) + 1:
            raise InvalidFile(f"{file}, line {number}, holds {len(row)} cells; the first names {len(columns) + 1}")
        words.append(row.pop(place).strip())
        values.append([_number(cell, file, number, name) for cell, name in zip(row, columns, strict=True)])
    classes = tuple(sorted(set(words), key=_order))
    if not 2 <= len(classes) <= MAX_CLASSES or not all(each.isprintable() and each for each in classes):
        raise InvalidFile(
            f"{file}: the column of classes holds {len(classes):,} words; 2 to {MAX_CLASSES:,} are classes. "
            "Name the column that holds them: label="
        )
    table = torch.tensor(values, dtype=torch.float64)
    seen: dict[tuple[float, ...], int] = {}
    for number, row in enumerate(values):
        seen.setdefault(tuple(row), number)
    place_of = {word: number for number, word in enumerate(classes)}
    labels = torch.tensor([place_of[word] for word in words])
    return _Table(table, labels, torch.tensor(sorted(seen.values())), tuple(columns), classes)


def _number(cell: str, file: Path, line: int, column: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        said = f"holds {one_line(ValueError(repr(cell)), 40)}" if cell.strip() else "is empty"
        raise InvalidFile(
            f"{file}, line {line}, column {one_line(ValueError(repr(column)), 60)} {said}: all columns but the class "
            "are numbers. Fill it in, leave the row out, or give a column of 0 and 1 for each word"
        )
    return value


def _order(word: str) -> tuple[int, float, str]:
    """Numbers in their order, then words in theirs."""
    try:
        return 0, float(word), word
    except ValueError:
        return 1, 0.0, word
