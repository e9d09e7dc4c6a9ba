"""Results by content hash in one SQLite file, so that any run resumes and no cell is computed twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from whorl.errors import InvalidFile, WhorlError
from whorl.storage import disk_refusal

__all__ = ["Store", "cell_key"]

PATIENCE = 60  # seconds to wait for another process that writes
BATCH = 900  # keys in one statement; old builds of SQLite take at most 999 parameters


def cell_key(**parts: Any) -> str:
    """Content hash of everything a cell depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


class Store:
    """A table of cells: key to JSON document. What is put is kept, whenever the process is killed.

    Raises, here and in every method:
        InvalidFile: the file at ``path`` is no such table.
        WhorlError: it can't be read or written, as where the disk is full or another program holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._translated():
            self._database = sqlite3.connect(path, timeout=PATIENCE)
            _write_ahead(self._database)
            # Outlives the process without a sync of the disk for each cell; only a power cut may cost the last ones.
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS cells (key TEXT PRIMARY KEY, document TEXT NOT NULL)")

    def __contains__(self, key: str) -> bool:
        return bool(self._rows("SELECT 1 FROM cells WHERE key = ?", [key]))

    def __len__(self) -> int:
        return int(self._rows("SELECT count(*) FROM cells")[0][0])

    def missing(self, keys: Iterable[str]) -> set[str]:
        """Those that have not been computed."""
        missing: set[str] = set()
        for batch in _batches(keys):
            missing.update(batch)
            missing.difference_update(key for (key,) in self._select("key", batch))
        return missing

    def get(self, key: str) -> Any:
        """The document of a cell. Raises `KeyError` when it has not been computed."""
        rows = self._rows("SELECT document FROM cells WHERE key = ?", [key])
        if not rows:
            raise KeyError(key)
        return self._document(key, rows[0][0])

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The documents of those cells that have been computed."""
        rows = (row for batch in _batches(keys) for row in self._select("key, document", batch))
        return {key: self._document(key, document) for key, document in rows}

    def put(self, key: str, document: Any) -> None:
        """Keep a cell for good."""
        self.put_many({key: document})

    def put_many(self, documents: Mapping[str, Any]) -> None:
        """Keep cells for good: all of them, or none where one cannot be kept."""
        rows = [(key, json.dumps(document)) for key, document in documents.items()]
        with self._translated(), self._database:
            self._database.executemany("INSERT OR REPLACE INTO cells VALUES (?, ?)", rows)

    def forget(self, keys: Iterable[str]) -> None:
        """Drop cells, so that they are computed again."""
        with self._translated(), self._database:
            self._database.executemany("DELETE FROM cells WHERE key = ?", ((key,) for key in keys))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _select(self, columns: str, keys: list[str]) -> list[Any]:
        marks = ", ".join("?" * len(keys))
        return self._rows(f"SELECT {columns} FROM cells WHERE key IN ({marks})", keys)

    def _document(self, key: str, text: object) -> Any:
        try:
            return json.loads(text if isinstance(text, str | bytes) else "")
        except (ValueError, RecursionError):
            raise InvalidFile(
                f"{self.path}: the cell {key} is damaged; move the file away to begin a new one"
            ) from None

    def _rows(self, statement: str, values: Sequence[str] = ()) -> list[Any]:
        with self._translated():
            return self._database.execute(statement, values).fetchall()

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if refused := disk_refusal(error, self.path):
                raise WhorlError(f"{self.path} {refused}") from None
            raise InvalidFile(
                f"{self.path} is not a store of results ({error}); move it away to begin a new one"
            ) from None


def _write_ahead(database: sqlite3.Connection) -> None:
    """Readers and writers side by side. Of two that begin a file at once SQLite fails one without waiting."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while batch := list(islice(left, BATCH)):
        yield batch
