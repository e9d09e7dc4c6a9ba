"""Pictures in parquet files, as the Hugging Face hub lays them out: a column of {bytes, path}, a column of labels."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import torch
from torch import Tensor

from whorl.data.base import PARTS, Dataset, Source, divide
from whorl.data.pictures import OwnSides, distinct, stack
from whorl.errors import InvalidFile, MissingExtra, UsageError
from whorl.expressions import Call
from whorl.settings import Seed, Whole
from whorl.storage import check_size, digest_file

__all__ = ["Cifar10", "Parquet", "Tables"]

IMAGE_COLUMNS: Final = ("image", "img")
LABEL_COLUMNS: Final = ("label", "labels", "fine_label")
BINARY: Final = ("binary", "large_binary", "binary_view")
BATCH: Final = 32  # rows in memory at once: a row may hold a large picture
MAX_ROWS: Final = 20_000_000
MAX_CLASSES: Final = 100_000
CIFAR10: Final = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Tables:
    """The files of one train split and of one test split, which may be empty.

    ``image`` and ``label`` name the columns (empty: the usual names); ``size``, ``limit`` as in `Parquet`. Classes
    that are not given come from the train files.
    """

    train: tuple[str, ...]
    test: tuple[str, ...] = ()
    image: str = ""
    label: str = ""
    size: OwnSides = 0
    limit: int = 0
    classes: tuple[str, ...] = ()

    def load(self, part: str, *, seed: int, expression: str) -> Dataset:
        """The pictures of one part. A picture that occurs again is left out, so parts share none.

        A test split is the part ``test``; the train split is divided into the parts that remain.
        """
        classes = self.classes or _classes(self.train, self.label)
        if self.test and part == "test":
            images, labels = self._read(self.test, classes)
            index = distinct(images)
        else:
            images, labels = self._read(self.train, classes)
            index = distinct(images, self._test_images(images, classes))
            shares = {name: share for name, share in PARTS.items() if not self.test or name != "test"}
            index = index[divide(labels[index], part, seed=seed, shares=shares)]
        return Dataset(images[index], labels[index], classes, expression)

    def _read(self, paths: tuple[str, ...], classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        return _read(paths, self.image, self.label, self.size, self.limit, len(classes))

    def _test_images(self, train: Tensor, classes: tuple[str, ...]) -> Tensor | None:
        if not self.test:
            return None
        images, _ = self._read(self.test, classes)
        if len(images) and len(train) and images.shape[1:] != train.shape[1:]:
            raise UsageError(
                f"the pictures of {self.train[0]} and of {self.test[0]} differ in size; give one to all, as in size=32"
            )
        return images


@dataclass(frozen=True)
class Parquet(Source):
    """Pictures of one parquet file, or of a train and a test file.

    Without a ``test`` file the ``train`` file is divided into all five parts; with one, ``test`` is that file and the
    train file gives the other four. ``seed`` chooses which pictures fall into which part. Copies of a picture are
    left out. Stored as uint8 RGB.

    Parameters:
        train, test: paths.
        image, label: columns; by default ``image`` or ``img``, and ``label``, ``labels`` or ``fine_label``.
        size: pixels on each side of a square or ``[height, width]``, 4..512: the middle of each picture is resized
            bilinearly. 0 keeps what all pictures share.
        limit: keeps the first rows of each file. 0 keeps all.

    Raises `UsageError` for a missing file or column and for pictures of several sizes, `InvalidFile` for a damaged
    file or row, `MissingExtra` without pyarrow.
    """

    train: str
    test: str = ""
    image: str = ""
    label: str = ""
    size: OwnSides = 0
    limit: Whole = 0
    seed: Seed = 0

    def _tables(self) -> Tables:
        train, test = (tuple(map(os.path.expanduser, filter(None, (path,)))) for path in (self.train, self.test))
        return Tables(train, test, self.image, self.label, self.size, self.limit)

    def content(self) -> str:
        """Digest of the bytes of both files."""
        tables = self._tables()
        return _content(tables.train + tables.test)

    def _load(self, part: str) -> Dataset:
        expression = str(Call("parquet", kwargs=tuple(vars(self).items())))
        return self._tables().load(part, seed=self.seed, expression=expression)


@dataclass(frozen=True)
class Cifar10(Source):
    """CIFAR-10: 50,000 and 10,000 colour photographs of 32 x 32 pixels, as ``train-*.parquet``, ``test-*.parquet``.

    They lie in the folder ``path``, or where the environment variable WHORL_CIFAR10 says, which keeps the place out
    of recipes. ``limit`` and ``seed`` as in `Parquet`.
    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """

    path: str = ""
    limit: Whole = 0
    seed: Seed = 0

    def _load(self, part: str) -> Dataset:
        folder = os.path.expanduser(self.path or os.environ.get("WHORL_CIFAR10", ""))
        if not folder:
            raise UsageError(
                'cifar10 needs the folder of its parquet files: give cifar10(path="FOLDER") or set WHORL_CIFAR10=FOLDER'
            )
        splits = [tuple(map(str, sorted(Path(folder).glob(f"{split}-*.parquet")))) for split in ("train", "test")]
        if not all(splits):
            raise UsageError(
                f"{folder} holds no train-*.parquet and test-*.parquet of cifar10; "
                f'give their folder as cifar10(path="FOLDER") or WHORL_CIFAR10=FOLDER'
            )
        tables = Tables(splits[0], splits[1], limit=self.limit, classes=CIFAR10)
        expression = str(Call("cifar10", kwargs=tuple(vars(self).items())))
        return tables.load(part, seed=self.seed, expression=expression)


@lru_cache(maxsize=4)  # decoding 50,000 pictures takes seconds, and four parts come from the same file
def _read(
    paths: tuple[str, ...], image: str, label: str, size: OwnSides, limit: int, classes: int
) -> tuple[Tensor, Tensor]:
    """The first ``limit`` pictures ``[n, 3, h, w]`` uint8 of some files, and their labels ``[n]`` int64."""
    labels: list[np.ndarray] = []
    room = limit or MAX_ROWS
    for path in paths:
        values = _labels(path, label)[:room]
        room -= len(values)
        wrong = (values < 0) | (values >= classes)
        if wrong.any():
            row = int(wrong.argmax())
            raise InvalidFile(
                f"row {row} of {path} has the label {values[row]}; with {classes} classes it is 0 to {classes - 1}. "
                f"Remove the row or give another column, as in label=NAME."
            )
        labels.append(values.astype(np.int64))
    numbers = torch.from_numpy(np.concatenate(labels))
    rows = (row for path in paths for row in _rows(path, image))
    return stack(islice(rows, len(numbers)), len(numbers), size=size), numbers


@lru_cache(maxsize=16)
def _content(paths: tuple[str, ...]) -> str:
    return " ".join(map(digest_file, paths))


def _rows(path: str, image: str) -> Iterator[tuple[bytes, str]]:
    """The encoded pictures of one file, each with its place for messages."""
    with _opened(path) as file:
        name = _column(file, path, image, IMAGE_COLUMNS, "image")
        kind = file.schema_arrow.field(name).type
        fields = {kind.field(at).name: str(kind.field(at).type) for at in range(kind.num_fields)}
        if fields.get("bytes") not in BINARY:
            raise UsageError(f"{path}: the column {name!r} is {kind}; a struct with bytes is needed, give image=NAME")
        row = 0
        for batch in file.iter_batches(BATCH, columns=[f"{name}.bytes"]):
            (column,) = batch.column(0).flatten()
            for encoded in column.to_pylist():
                place = f"row {row} of {path}"
                if encoded is None:
                    raise InvalidFile(f"{place} holds no picture: {name}.bytes is null. Remove the row.")
                yield encoded, place
                row += 1


def _labels(path: str, label: str) -> np.ndarray:
    """All labels of one file, ``[rows]``."""
    with _opened(path) as file:
        name = _column(file, path, label, LABEL_COLUMNS, "label")
        kind = str(file.schema_arrow.field(name).type)
        if not kind.removeprefix("u").startswith("int"):
            raise UsageError(f"{path}: the column {name!r} is {kind}; whole numbers are needed, give label=NAME")
        column = file.read(columns=[name]).column(0)
        if column.null_count:
            row = column.is_null().index(True).as_py()
            raise InvalidFile(f"row {row} of {path} has no label: {name} is null. Remove the row.")
        return column.to_numpy()


def _classes(paths: tuple[str, ...], label: str) -> tuple[str, ...]:
    """The class names that the first file declares; else the numbers up to the largest label of all files."""
    with _opened(paths[0]) as file:
        metadata = file.schema_arrow.metadata or {}
        name = _column(file, paths[0], label, LABEL_COLUMNS, "label")
    if names := _declared(metadata.get(b"huggingface", b"null"), name):
        return names
    largest = max((int(labels.max()) for path in paths if len(labels := _labels(path, label))), default=-1)
    if largest >= MAX_CLASSES:
        raise InvalidFile(f"{paths[0]} has the label {largest}; at most {MAX_CLASSES:,} classes are taken")
    return tuple(map(str, range(largest + 1)))


def _declared(metadata: bytes, name: str) -> tuple[str, ...]:
    """Class names in the metadata that the library ``datasets`` writes; none if they are not as it writes them."""
    try:
        names = json.loads(metadata)["info"]["features"][name]["names"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ()
    if not isinstance(names, list) or len(names) > MAX_CLASSES:
        return ()
    return tuple(names) if all(isinstance(name, str) and name.isprintable() for name in names) else ()


def _column(file: Any, path: str, given: str, usual: tuple[str, ...], what: str) -> str:
    known = file.schema_arrow.names
    for name in (given,) if given else usual:
        if known.count(name) == 1:
            return name
    wanted = given or " or ".join(usual)
    raise UsageError(f"{path} has no {what} column {wanted}, but {', '.join(known)}; give {what}=NAME")


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """A ``pyarrow.parquet.ParquetFile``; what pyarrow raises while it is open becomes one `InvalidFile`."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("parquet data sets", "parquet") from None
    check_size(path, 1 << 62)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if file.metadata.num_rows > MAX_ROWS:
                raise InvalidFile(f"{path} claims {file.metadata.num_rows:,} rows; at most {MAX_ROWS:,} fit")
            yield file
    except (pa.ArrowException, OSError) as error:
        _refuse(path, error)


def _refuse(path: str, error: Exception) -> NoReturn:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    raise InvalidFile(f"{path} is damaged or no parquet file: {reason[:200]}") from None
