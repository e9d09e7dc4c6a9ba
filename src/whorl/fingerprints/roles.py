"""In which roles the nets of a lineup stand in other lineups.

Of any set of runs one comes first for a given suspect, so whoever lines up the same runs again and again, with one
after another as the victim, accuses anybody. The owner's cache remembers of every net, by its digest, in which lineups
it stood as the victim and in which as a twin, and of every lineup which others know one of its nets in another role.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from whorl.fingerprints.memory import note, recall
from whorl.fingerprints.parts import Document

__all__ = ["take_roles", "turned"]

Commitment = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Stood(Document):
    lineup: Commitment
    role: Literal["victim", "twin"]


class _Turned(Document):
    other: Commitment


def take_roles(folder: Path, commitment: str, victim: Iterable[str], twins: Iterable[str]) -> int:
    """Note who stands where in the lineup of this commitment, by digests of weights.

    Returns in how many earlier lineups one of these nets stood in another role; those know of this one from now on.

    Raises:
        InvalidFile: what the folder remembers can't be read, or nothing can be written.
    """
    others: set[str] = set()
    for role, digests in (("victim", victim), ("twin", twins)):
        for digest in dict.fromkeys(digests):
            others |= {line.lineup for line in recall(folder, f"net {digest}", _Stood) if line.role != role}
            note(folder, f"net {digest}", {"lineup": commitment, "role": role})
    for other in sorted(others - {commitment}):
        note(folder, f"lineup {other}", {"other": commitment})
        note(folder, f"lineup {commitment}", {"other": other})
    return len(others - {commitment})


def turned(folder: Path, commitment: str) -> int:
    """In how many other lineups a net of this one stands in another role. Raises `InvalidFile` as `take_roles` does."""
    return len({line.other for line in recall(folder, f"lineup {commitment}", _Turned)})
