"""What the other side shows: an artefact that names the suspect, and when an authority saw it.

Any file will do that holds the suspect's SHA-256 (a claim of their own, the root of a training log, a release's bill of
materials): its time-stamp proves that the weights existed by then, whoever wrote it. A claim of theirs may be opened
too; it is void where its victim, the suspect, does not answer its own opened queries as it says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whorl.attest.envelope import decoded, open_envelope
from whorl.attest.keys import PublicKey
from whorl.attest.stamp import Stamp
from whorl.claims.audit import LEAST_EQUAL
from whorl.claims.dates import stamped
from whorl.claims.opening import OpenedClaim
from whorl.errors import InvalidFile, UsageError
from whorl.oracles.base import Oracle
from whorl.schemes import SCHEMES
from whorl.schemes.asking import ordered
from whorl.storage import MAX_JSON_BYTES, check_size, read_json

__all__ = ["Artefact", "own_leaves_fault", "read_artefact"]


@dataclass(frozen=True)
class Artefact:
    """A file of the other side: its SHA-256, the verified time-stamp if any, and who is known to have signed it."""

    name: str
    digest: str
    stamp: Stamp | None = None
    signers: tuple[str, ...] = ()


def read_artefact(
    path: Path,
    suspect: Sequence[str],
    *,
    token: Path | None = None,
    roots: Path | None = None,
    keys: Sequence[PublicKey] = (),
) -> Artefact:
    """Read an artefact of the other side.

    Parameters:
        suspect: digests of the suspect, of which one has to be in it; none where nobody sees the suspect's weights, and
            then it is taken on their word.
        token, roots: a time-stamp over the file, and the authorities that are trusted.
        keys: of the other side; one of them has to have signed the file, if any is given.

    Raises:
        UsageError: no such file, it names another model than the suspect, or a stamp without roots.
        InvalidFile: a stamp or a signature does not fit.
    """
    check_size(path, MAX_JSON_BYTES)
    data = path.read_bytes()
    signers: tuple[str, ...] = ()
    if keys:
        try:
            _, signers = open_envelope(data, keys)
        except InvalidFile as error:
            raise InvalidFile(f"{path}: {error}") from None
    digest = hashlib.sha256(data).hexdigest()
    said = data.decode(errors="replace") + _payload(path)
    if suspect and digest not in suspect and not any(each in said for each in suspect):
        raise UsageError(
            f"{path} does not name the suspect, whose SHA-256 is {suspect[0][:80]}: what the other side shows has to "
            "be of this model, as a claim whose victim it is"
        )
    if token is not None and roots is None:
        raise UsageError("a stamp is verified against roots that you trust: give --tsa-root root.pem")
    stamp = None if token is None or roots is None else stamped(path, token, roots)
    return Artefact(path.name, digest, stamp, signers)


def own_leaves_fault(opened: OpenedClaim, suspect: Oracle) -> str:
    """Why a claim of the other side, whose victim is the suspect, is void; empty where it is not.

    References that were invented, or that its victim was trained away from, are no fingerprint of it.
    """
    for name, part in opened.families.items():
        scheme = SCHEMES.make(part.scheme)
        match = scheme.observe(part, ordered(scheme, part, suspect)).similarity
        if match < LEAST_EQUAL:
            return f"its victim answers {match:.1%} of its own opened queries of {name} as it says"
    return ""


def _payload(path: Path) -> str:
    """The text of an envelope's payload; empty of any other file."""
    try:
        document: Any = read_json(path)
        return decoded(str(document["payload"]), "payload").decode(errors="replace")
    except (InvalidFile, KeyError, TypeError):
        return ""
