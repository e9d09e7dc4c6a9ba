"""Results by content hash in one SQLite file, so that any run resumes and no cell is computed twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from whorl.errors import InvalidFile

__all__ = ["Store", "cell_key"]

PATIENCE = 60  # seconds to wait for another process that writes
BATCH = 900  # keys in one statement; old builds of SQLite take at most 999 parameters


def cell_key(**parts: Any) -> str:
    """Content hash of everything a cell depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


class Store:
    """A table of cells: key to JSON document. What is put is kept, whenever the process is killed."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(path, timeout=PATIENCE)
            _write_ahead(self._database)
            # Outlives the process without a sync of the disk for each cell; only a power cut may cost the last ones.
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS cells (key TEXT PRIMARY KEY, document TEXT NOT NULL)")
        except sqlite3.DatabaseError as error:
            raise InvalidFile(f"{path} is not a store of results ({error}); move it away to begin a new one") from None

    def __contains__(self, key: str) -> bool:
        return self._database.execute("SELECT 1 FROM cells WHERE key = ?", (key,)).fetchone() is not None

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM cells").fetchone()[0])

    def missing(self, keys: Iterable[str]) -> set[str]:
        """Those that have not been computed."""
        missing: set[str] = set()
        for batch in _batches(keys):
            missing.update(batch)
            missing.difference_update(key for (key,) in self._select("key", batch))
        return missing

    def get(self, key: str) -> Any:
        """The document of a cell. Raises `KeyError` when it has not been computed."""
        row = self._database.execute("SELECT document FROM cells WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return json.loads(row[0])

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The documents of those cells that have been computed."""
        rows = (row for batch in _batches(keys) for row in self._select("key, document", batch))
        return {key: json.loads(document) for key, document in rows}

    def put(self, key: str, document: Any) -> None:
        """Keep a cell for good."""
        self.put_many({key: document})

    def put_many(self, documents: Mapping[str, Any]) -> None:
        """Keep cells for good: all of them, or none where one cannot be kept."""
        rows = [(key, json.dumps(document)) for key, document in documents.items()]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO cells VALUES (?, ?)", rows)

    def forget(self, keys: Iterable[str]) -> None:
        """Drop cells, so that they are computed again."""
        with self._database:
            self._database.executemany("DELETE FROM cells WHERE key = ?", ((key,) for key in keys))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _select(self, columns: str, keys: list[str]) -> sqlite3.Cursor:
        marks = ", ".join("?" * len(keys))
        return self._database.execute(f"SELECT {columns} FROM cells WHERE key IN ({marks})", keys)


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
