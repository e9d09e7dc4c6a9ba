"""Which suspects the lineups of a victim were held against before, whatever file a lineup lies in.

Whoever draws other twins until a suspect names the victim has taken the best of several lineups, and the log beside a
fingerprint file does not know of other files. One file of lines for each victim, in the owner's cache, does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from whorl.fingerprints.memory import note, recall
from whorl.fingerprints.parts import Document, Name
from whorl.types import Fingerprint

__all__ = ["other_lineups", "remember"]


class _Line(Document):
    lineup: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    suspect: Name


def other_lineups(folder: Path, fingerprint: Fingerprint, suspect: str) -> int:
    """How many other lineups of the victim the suspect with this digest stood before.

    Raises:
        InvalidFile: what the folder remembers of this victim can't be read.
    """
    own = fingerprint.candidates and fingerprint.candidates.commitment
    met = {line.lineup for line in recall(folder, fingerprint.victim, _Line) if line.suspect == suspect}
    return len(met - {own})


def remember(folder: Path, fingerprint: Fingerprint, suspect: str) -> None:
    """Note that the suspect stands before the fingerprint's lineup. Raises `InvalidFile` if nothing can be written."""
    assert fingerprint.candidates is not None
    note(folder, fingerprint.victim, {"lineup": fingerprint.candidates.commitment, "suspect": suspect})
