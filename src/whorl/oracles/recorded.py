"""Answers kept on disk, so that nothing that was paid for is asked twice.

One SQLite file per model and access. Every chunk of answers is committed as it arrives, before the caller sees it: a
process that is killed loses only what was still on its way. The file may come from somebody else, so its layout, its
owner and every answer are checked on reading; it holds numbers only.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from whorl.errors import InvalidFile, OracleError, UsageError
from whorl.oracles.base import Chunk, Oracle
from whorl.oracles.wrappers import Wrapper
from whorl.types import Access

__all__ = ["Recorded"]

_APPLICATION: Final = 0x77686F72  # "whor", SQLite's mark of the program that a file belongs to
_TABLES: Final = {
    "meta": "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "answers": ("CREATE TABLE answers (key BLOB PRIMARY KEY, answer BLOB NOT NULL, seal BLOB NOT NULL) WITHOUT ROWID"),
}
_LOOKUP: Final = 500  # keys per SELECT; SQLite's oldest limit on parameters is 999
_WAIT: Final = 30.0  # seconds to wait for another process that writes to the same file


class Recorded(Wrapper):
    """Replays answers from ``path`` and asks ``inner`` only about inputs that it has never answered there.

    An answer is found by the SHA-256 of the model's digest, its treatment by wrappers, its access and the input's
    float32 bytes. Inputs that occur twice in one call are asked once. ``inner.queries_spent`` counts what was really
    asked, ``replayed`` what was not, ``queries_spent`` both.

    Raises:
        UsageError: the file cannot be made at ``path``, or ``inner`` has no digest to know it by.
        InvalidFile: the file is no such store, belongs to another model or access, or is damaged.
        OracleError: the file cannot be written (disk full, locked by another process for half a minute).
    """

    def __init__(self, inner: Oracle, path: Path | str) -> None:
        if not inner.digest:
            raise UsageError(f"{inner.name} has no digest, so its answers cannot be told from another model's")
        super().__init__(inner, access=min(inner.access, Access.LOGITS))
        self.path = Path(path)
        self.replayed = 0
        owner = {
            "access": self.access.name,
            "classes": str(inner.classes),
            "input shape": str(list(inner.space.shape)),
            "model": inner.digest,
            "treatment": self.treatment,
        }
        self._salt = hashlib.sha256("\0".join(owner.values()).encode()).digest()
        self._connection = self._open(owner)

    def close(self) -> None:
        """Close the file. Everything that arrived is on disk already."""
        self._connection.close()

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        places: dict[bytes, list[int]] = {}
        for position, key in enumerate(self._keys(inputs)):
            places.setdefault(key, []).append(position)
        known = self._read(list(places))
        if known:
            self.replayed += sum(len(places[key]) for key in known)
            yield _spread([places[key] for key in known], torch.stack(list(known.values())))
        unknown = [key for key in places if key not in known]
        if not unknown:
            return
        first = torch.tensor([places[key][0] for key in unknown])
        for positions, answers in self.inner.stream(inputs[first]):
            keys = [unknown[position] for position in positions.tolist()]
            self._write(keys, answers)
            self.replayed += sum(len(places[key]) - 1 for key in keys)
            yield _spread([places[key] for key in keys], answers)

    def _keys(self, inputs: Tensor) -> Iterator[bytes]:
        for encoded in self.space.encode(inputs):
            yield hashlib.sha256(self._salt + encoded).digest()

    def _read(self, keys: list[bytes]) -> dict[bytes, Tensor]:
        known: dict[bytes, Tensor] = {}
        with self._translated():
            for start in range(0, len(keys), _LOOKUP):
                part = keys[start : start + _LOOKUP]
                marks = ", ".join("?" * len(part))
                rows = self._connection.execute(
                    f"SELECT key, answer, seal FROM answers WHERE key IN ({marks})",  # question marks only
                    part,
                )
                known.update({key: self._decode(key, answer, seal) for key, answer, seal in rows})
        return known

    def _write(self, keys: list[bytes], answers: Tensor) -> None:
        kind = np.dtype("<i8") if self.access is Access.LABELS else np.dtype("<f4")
        blobs = [row.tobytes() for row in answers.detach().cpu().numpy().astype(kind, copy=False)]
        with self._translated(), self._connection:
            self._connection.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)",
                [(key, blob, _seal(key, blob)) for key, blob in zip(keys, blobs, strict=True)],
            )

    def _decode(self, key: bytes, answer: object, seal: object) -> Tensor:
        labels = self.access is Access.LABELS
        size = 8 if labels else 4 * self.classes
        if not isinstance(answer, bytes) or len(answer) != size or seal != _seal(key, answer):
            raise self._damaged(f"an answer is not the {size} bytes that were recorded")
        value = torch.from_numpy(np.frombuffer(answer, "<i8" if labels else "<f4").copy())
        if labels and not 0 <= int(value) < self.classes:
            raise self._damaged(f"a label is {int(value)}, outside 0..{self.classes - 1}")
        if not labels and not bool(value.isfinite().all()):
            raise self._damaged("an answer is NaN or infinite")
        return value[0] if labels else value

    def _damaged(self, reason: str) -> InvalidFile:
        return InvalidFile(f"{self.path} is damaged or holds no recorded answers ({reason}); give another file")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:  # the disk or another process, not what the file says
            raise OracleError(f"the answers of {self.name} can't be kept in {self.path}: {error}") from None
        except (sqlite3.Error, OverflowError, UnicodeError) as error:
            raise self._damaged(str(error)) from None

    def _open(self, owner: Mapping[str, str]) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self.path, timeout=_WAIT, check_same_thread=False)
        except sqlite3.OperationalError:
            raise UsageError(f"{self.path} can't be opened; give a file in an existing, writable folder") from None
        try:
            with self._translated():
                # The file may be hostile: bound the size of a value, and let nothing in its schema call a function.
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 65536 + 8 * self.classes)
                connection.execute("PRAGMA trusted_schema = OFF")
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                    _create(connection, owner)
                self._identify(connection, owner)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _identify(self, connection: sqlite3.Connection, owner: Mapping[str, str]) -> None:
        tables = connection.execute("SELECT name, sql FROM sqlite_master").fetchall()
        if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION or dict(tables) != _TABLES:
            raise InvalidFile(f"{self.path} holds no recorded answers; give another file")
        found = dict(connection.execute("SELECT name, value FROM meta LIMIT 100"))
        for name, value in owner.items():
            if found.get(name) != value:
                raise InvalidFile(
                    f"{self.path} was recorded for another {name} ({str(found.get(name, ''))[:80]!r}, "
                    f"not {value[:80]!r}); give another file"
                )


def _create(connection: sqlite3.Connection, owner: Mapping[str, str]) -> None:
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return  # another process was quicker
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        for statement in _TABLES.values():
            connection.execute(statement)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", list(owner.items()))


def _seal(key: bytes, answer: bytes) -> bytes:
    return hashlib.blake2b(key + answer, digest_size=8).digest()  # finds damage; it is no signature


def _spread(places: list[list[int]], answers: Tensor) -> Chunk:
    """Answers for every position of each input."""
    counts = torch.tensor([len(positions) for positions in places])
    flat = torch.tensor([position for positions in places for position in positions])
    return flat, answers.repeat_interleave(counts.to(answers.device), dim=0)
