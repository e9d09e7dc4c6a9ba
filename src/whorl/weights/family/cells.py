"""What is known from before: documents by key, each beside a digest of itself, so that a damaged one is made anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeVar

from whorl.errors import InvalidFile, WhorlError

__all__ = ["Cells", "Memory", "held", "keep"]

T = TypeVar("T")
UNSOUND: Final = (WhorlError, KeyError, TypeError, ValueError, AttributeError)


class Cells(Protocol):
    """What keeps documents by key, as `whorl.engine.store.Store` does."""

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The documents that are there."""
        ...

    def put(self, key: str, document: Any) -> None:
        """Keep a document."""
        ...


class Memory:
    """Cells that end with the process."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The documents that are there."""
        return {key: self.held[key] for key in keys if key in self.held}

    def put(self, key: str, document: Any) -> None:
        """Keep a document."""
        self.held[key] = document


def keep(cells: Cells, key: str, document: Mapping[str, Any]) -> None:
    """Keep a document with its digest."""
    cells.put(key, {"sha256": _digest(key, document), "document": document})


def held(cells: Cells, keys: Iterable[str], restore: Callable[[Any], T]) -> dict[str, T]:
    """What ``restore`` makes of the documents that are there and whole; a damaged one is as good as none.

    The digest tells a damaged cell, not a forged one: whoever may write here may write what he likes.
    """
    found: dict[str, T] = {}
    for key, cell in _read(cells, list(keys)).items():
        try:
            document = cell["document"]
            if cell["sha256"] == _digest(key, document):
                found[key] = restore(document)
        except UNSOUND:
            continue
    return found


def _read(cells: Cells, keys: list[str]) -> dict[str, Any]:
    """All at once; where one cannot be read, one by one, so that it costs no other."""
    try:
        return cells.get_many(keys)
    except InvalidFile:
        if len(keys) == 1:
            return {}
    half = len(keys) // 2
    return {**_read(cells, keys[:half]), **_read(cells, keys[half:])}


def _digest(key: str, document: Any) -> str:
    return hashlib.sha256(json.dumps([key, document], sort_keys=True).encode()).hexdigest()
