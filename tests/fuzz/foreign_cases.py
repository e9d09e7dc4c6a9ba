"""A reader of what strangers wrote: valid examples, how each is changed, and what may come of it.

Nothing but a result or a `WhorlError` of one printable line may come back, soon and in little memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whorl.errors import WhorlError


@dataclass(frozen=True)
class Case:
    """A reader with valid examples and a way to change them. ``share`` says how many inputs it deserves."""

    examples: list[Any]
    change: Callable[[Any, random.Random], bytes]
    read: Callable[[bytes], object]
    share: float = 1.0

    def input(self, number: int) -> bytes:
        """The input of a number, the same on every machine."""
        chance = random.Random(number)
        return self.change(chance.choice(self.examples), chance)


def fault(case: Case, data: bytes) -> str:
    """What is wrong with how ``data`` was answered; empty where nothing is."""
    try:
        case.read(data)
    except WhorlError as error:
        told = str(error)
        if not told.isprintable():
            return f"a message of several lines or with marks that steer a terminal: {told[:300]!r}"
        return f"a message of {len(told):,} characters: {told[:300]!r}" if len(told) > 2000 else ""
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]!r}"
    return ""


def in_file(folder: Path, name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    path = folder / name

    def written(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return written
