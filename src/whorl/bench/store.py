"""Results by content hash in one SQLite file, so that any run resumes and no cell is computed twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

from whorl.errors import InvalidFile

__all__ = ["Store", "cell_key"]


def cell_key(**parts: Any) -> str:
    """Content hash of everything a cell depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


class Store:
    """A table of cells: key to JSON document. Each cell is committed as it arrives."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(path, timeout=60)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS cells (key TEXT PRIMARY KEY, document TEXT NOT NULL)")
        except sqlite3.DatabaseError as error:
            raise InvalidFile(f"{path} is not a store of results ({error}); move it away to begin a new one") from None

    def __contains__(self, key: str) -> bool:
        return self._database.execute("SELECT 1 FROM cells WHERE key = ?", (key,)).fetchone() is not None

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM cells").fetchone()[0])

    def get(self, key: str) -> Any:
        """The document of a cell. Raises `KeyError` when it has not been computed."""
        row = self._database.execute("SELECT document FROM cells WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return json.loads(row[0])

    def put(self, key: str, document: Any) -> None:
        """Keep a cell for good."""
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO cells VALUES (?, ?)", (key, json.dumps(document)))

    def close(self) -> None:
        """Close the file."""
        self._database.close()
