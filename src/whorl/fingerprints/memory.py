"""What an owner's cache remembers of a victim, a net or a lineup, whatever file it lies in: one file of lines each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from whorl.errors import InvalidFile
from whorl.fingerprints.parts import Document
from whorl.storage import appending, canonical_json

__all__ = ["note", "recall"]

MOST_BYTES: Final = 64 << 20

Line = TypeVar("Line", bound=Document)


def recall(folder: Path, key: str, kind: type[Line]) -> list[Line]:
    """The lines that are kept under a key, as a victim's digest, the oldest first; none where there is no file.

    Raises:
        InvalidFile: they can't be read.
    """
    path = _path(folder, key)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InvalidFile(f"{path} is larger than {MOST_BYTES:,} bytes; move it away to begin another")
        return [kind.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, ValidationError):
        raise InvalidFile(f"{path} can't be read; move it away to begin another") from None


def note(folder: Path, key: str, line: Mapping[str, Any]) -> None:
    """Add a line. Raises `InvalidFile` where nothing can be written."""
    path = _path(folder, key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with appending(path) as add:
            add(canonical_json(line) + b"\n")
    except OSError as error:
        raise InvalidFile(f"{path} can't be written: {error.strerror}") from None


def _path(folder: Path, key: str) -> Path:
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.jsonl"
