"""The salted commitment of a lineup to its victim's place, and the sidecar file that keeps the salt.

Whoever asks the suspect holds the fingerprint and not the secret, so nothing that is done before the answers are in
can depend on which candidate is the victim.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints.parts import Document
from whorl.storage import canonical_json, read_json, write_json
from whorl.types import Candidates

__all__ = ["Secret", "commit", "read_secret", "secret_path", "write_secret"]


@dataclass(frozen=True)
class Secret:
    """What opens a commitment: the salt (32 bytes in hexadecimal) and the victim's place among the candidates."""

    salt: str
    place: int

    @property
    def commitment(self) -> str:
        """SHA-256 of the canonical JSON of salt and place."""
        return hashlib.sha256(canonical_json({"salt": self.salt, "victim": self.place})).hexdigest()

    def seal(self, digest: str) -> str:
        """What stands for a candidate's digest in the file: alone it does not tell whose weights these are."""
        return hashlib.sha256(canonical_json({"salt": self.salt, "digest": digest})).hexdigest()

    def open(self, candidates: Candidates) -> int:
        """The victim's place. Raises `UsageError` where this secret belongs to another lineup."""
        if self.commitment != candidates.commitment or not 0 <= self.place < len(candidates.digests):
            raise UsageError("this secret does not open the lineup's commitment; give the one that was made with it")
        return self.place


def commit(place: int) -> Secret:
    """A new secret for a victim at ``place``; its salt comes from the system's own source of randomness."""
    return Secret(secrets.token_hex(32), place)


class _Document(Document):
    format: Literal[1]
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    victim: Annotated[int, Field(ge=0, lt=10_000)]


def secret_path(fingerprint: str | Path) -> Path:
    """Where the secret of a fingerprint file's lineup lies; whoever is not to know the victim gets the file alone."""
    return Path(f"{fingerprint}.secret")


def write_secret(secret: Secret, path: str | Path) -> None:
    """Keep a secret in a file that only its owner may read."""
    write_json(path, {"format": 1, "salt": secret.salt, "victim": secret.place})
    Path(path).chmod(0o600)


def read_secret(path: str | Path) -> Secret:
    """Read a secret. Raises `InvalidFile` where the file holds none."""
    try:
        document = _Document.model_validate(read_json(path, max_bytes=4096))
    except ValidationError:
        raise InvalidFile(f"{path} holds no secret of a lineup") from None
    return Secret(document.salt, document.victim)
