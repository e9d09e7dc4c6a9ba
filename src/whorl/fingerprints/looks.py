"""The log of looks beside a fingerprint: who was held against it, under which rule, with what outcome.

One line of JSON for each verification, in ``FINGERPRINT.looks``. Each names the SHA-256 of the line before, the first
one the fingerprint's id, so that a line that is changed or left out shows. Whoever asks until a verdict suits them
leaves the tries here. The owner's cache keeps the same entries by the fingerprint's id, so that a copy of the file
elsewhere, without its log, is no new fingerprint.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from whorl.errors import InvalidFile
from whorl.fingerprints.memory import note, recall
from whorl.fingerprints.parts import Document, Name, Text
from whorl.fingerprints.second import identity, look_after
from whorl.storage import appending, canonical_json
from whorl.types import Fingerprint, Look

__all__ = ["BEGUN", "add_look", "looks_of_copies", "looks_path", "read_looks", "remember_look"]

MOST_BYTES: Final = 16 << 20
BEGUN: Final = "begun"  # the entry that a lineup leaves before its first answer


class _Entry(Document):
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")]
    suspect: Text
    rule: Text
    decision: Literal["derived", "unrelated", "inconclusive", "begun", "changed", "no change shown"]


class _Line(_Entry):
    previous: Name


def looks_path(fingerprint: str | Path) -> Path:
    """Where the log of a fingerprint file lies."""
    return Path(f"{fingerprint}.looks")


def read_looks(path: str | Path, fingerprint: Fingerprint) -> tuple[Look, ...]:
    """The log of the fingerprint at ``path``; empty where there is none.

    Raises:
        InvalidFile: the log is damaged, of another fingerprint, or a line was changed or left out.
    """
    log = looks_path(path)
    try:
        if log.stat().st_size > MOST_BYTES:
            raise InvalidFile(f"{log} is larger than {MOST_BYTES:,} bytes; move it away to begin another")
        lines = log.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError):
        raise InvalidFile(f"{log} can't be read; move it away to begin another") from None
    known = dataclasses.replace(fingerprint, looks=())
    for number, text in enumerate(lines, 1):
        try:
            look = Look(**_Line.model_validate_json(text).model_dump())
        except ValidationError:
            raise InvalidFile(f"line {number} of {log} is no entry of a log; move it away to begin another") from None
        said = look_after(known, date=look.date, suspect=look.suspect, rule=look.rule, decision=look.decision)
        if said != look:
            raise InvalidFile(
                f"line {number} of {log} does not follow the one before: an entry was changed or left out, or the log "
                "is another fingerprint's; move it away to begin another"
            )
        known = dataclasses.replace(known, looks=(*known.looks, look))
    return known.looks


def add_look(path: str | Path, fingerprint: Fingerprint, *, date: str, suspect: str, rule: str, decision: str) -> None:
    """Write the next entry of the log. Raises `InvalidFile` as `read_looks` does, and where nothing can be written."""
    log = looks_path(path)
    try:
        with appending(log) as add:
            known = dataclasses.replace(fingerprint, looks=read_looks(path, fingerprint))
            look = look_after(known, date=date, suspect=suspect[:4000], rule=rule, decision=decision)
            add(canonical_json(dataclasses.asdict(look)) + b"\n")
    except OSError as error:
        raise InvalidFile(f"{log} can't be written: {error.strerror}; the verdict stands and is not logged") from None


def looks_of_copies(folder: Path, fingerprint: Fingerprint, log: Sequence[Look]) -> tuple[Look, ...]:
    """What the folder remembers of this fingerprint and its ``log`` does not hold; such looks follow no other.

    Raises:
        InvalidFile: what the folder remembers can't be read.
    """
    known = Counter((look.date, look.suspect, look.rule, look.decision) for look in log)
    kept = Counter(tuple(entry.model_dump().values()) for entry in recall(folder, identity(fingerprint), _Entry))
    return tuple(Look(*entry, previous="") for entry in sorted((kept - known).elements()))


def remember_look(folder: Path, fingerprint: Fingerprint, *, date: str, suspect: str, rule: str, decision: str) -> None:
    """Keep an entry by the fingerprint's id. Raises `InvalidFile` where nothing can be written."""
    note(
        folder,
        identity(fingerprint),
        {"date": date, "suspect": suspect[:4000], "rule": rule, "decision": decision},
    )
