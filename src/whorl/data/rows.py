"""Rows of an owner's own table, as a CSV file holds them: numbers in columns, and a column with the class."""

from __future__ import annotations

import csv
import math
import os
import re
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
NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")  # Python takes 1_0 for 10
MISSING: Final = frozenset({"", "?", "-", "na", "n/a", "nan", "null", "none", "nil"})
MEASURED: Final = 20  # numbers that differ in more than half of the rows, from which on they are no classes


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
        table = self._table()
        return table.values.amin(0), table.values.amax(0)

    def _file(self) -> Path:
        file = Path(os.path.expanduser(self.path))
        check_size(file, MAX_BYTES)
        return file.resolve()

    def _table(self) -> _Table:
        file = self._file()
        now = file.stat()
        return _read(file, self.label, (now.st_mtime_ns, now.st_size, now.st_ino))

    def _load(self, part: str) -> Dataset:
        table = self._table()
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


@lru_cache(maxsize=2)  # all parts come from the same file, unless it was written anew
def _read(file: Path, label: str, state: tuple[int, int, int]) -> _Table:
    del state
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
    if all(NUMBER.fullmatch(name) for name in columns):
        raise InvalidFile(f"{file}: its first line holds numbers alone. Put a line before it that names the columns")
    if label and label not in columns:
        raise UsageError(f"{file} has no column {label!r}; it has {', '.join(columns)[:300]}")
    place = columns.index(label) if label else len(columns) - 1
    named = columns.pop(place)
    values: list[list[float]] = []
    words: list[str] = []
    rest = csv.reader(lines, delimiter=separator)
    for number, row in enumerate(rest, 2):
        if not row:
            continue
        if len(row) != len(columns) + 1:
            raise InvalidFile(f"{file}, line {number}, holds {len(row)} cells; the first names {len(columns) + 1}")
        words.append(row.pop(place).strip())
        if not words[-1]:
            raise InvalidFile(f"{file}, line {number}, names no class. Fill it in, or leave the row out")
        if not values and (empty := _empty(row, rest, place)):
            raise InvalidFile(
                f"{file}: column {one_line(ValueError(repr(columns[empty[0]])), 60)} is empty in all rows. Leave it out"
            )
        values.append([_number(cell, file, number, name) for cell, name in zip(row, columns, strict=True)])
    classes = tuple(sorted(set(words), key=_order))
    _refuse_no_classes(file, classes, len(words))
    _refuse_no_header(file, columns, named, classes)
    table = torch.tensor(values, dtype=torch.float64)
    seen: dict[tuple[float, ...], int] = {}
    for number, row in enumerate(values):
        seen.setdefault(tuple(row), number)
    place_of = {word: number for number, word in enumerate(classes)}
    labels = torch.tensor([place_of[word] for word in words])
    return _Table(table, labels, torch.tensor(sorted(seen.values())), tuple(columns), classes)


def _empty(first: list[str], rest: Iterator[list[str]], place: int) -> list[int]:
    """Columns without a cell in any row. The rest is read to the end only where the first row lacks one."""
    empty = [number for number, cell in enumerate(first) if not cell.strip()]
    for row in rest if empty else ():
        cells = row[:place] + row[place + 1 :]
        empty = [number for number in empty if number >= len(cells) or not cells[number].strip()]
    return empty


def _refuse_no_header(file: Path, columns: list[str], named: str, classes: tuple[str, ...]) -> None:
    """Refuse a first line that is a row: numbers, and a class that other rows have too. Numbers alone may be names."""
    if named in classes and all(NUMBER.fullmatch(each) for each in columns):
        raise InvalidFile(
            f"{file}: its first line is a row like the others. Put a line before it that names the columns"
        )


def _refuse_no_classes(file: Path, classes: tuple[str, ...], rows: int) -> None:
    other = "Name the column that holds them: label="
    if len(classes) == 1:
        raise InvalidFile(
            f"{file}: all rows are of one class, {one_line(ValueError(repr(classes[0])), 40)}. Give rows of two or "
            f"more. {other}, where it is another column"
        )
    measured = all(NUMBER.fullmatch(each) for each in classes) and len(classes) > max(MEASURED, rows / 2)
    if not 2 <= len(classes) <= MAX_CLASSES or measured or not all(each.isprintable() for each in classes):
        why = ", which are measured numbers, as of a regression" if measured else ""
        raise InvalidFile(
            f"{file}: the column of classes holds {len(classes):,} words{why}; 2 to {MAX_CLASSES:,} are classes. "
            + other
            + (", or put the numbers into classes such as low and high" if measured else "")
        )


def _number(cell: str, file: Path, line: int, column: str) -> float:
    value = float(cell) if NUMBER.fullmatch(cell.strip()) else math.nan
    if not math.isfinite(value):
        shown = one_line(ValueError(repr(cell)), 40)
        missing = f"holds {shown}, a missing value" if cell.strip() else "is empty"
        said = missing if cell.strip().lower() in MISSING else f"holds {shown}"
        raise InvalidFile(
            f"{file}, line {line}, column {one_line(ValueError(repr(column)), 60)} {said}: all columns but the class "
            "are numbers. Fill it in, leave the row out, or give a column of 0 and 1 for each word"
        )
    return value


def _order(word: str) -> tuple[int, float, str]:
    """Numbers in their order, then words in theirs."""
    return (0, float(word), word) if NUMBER.fullmatch(word) else (1, 0.0, word)
