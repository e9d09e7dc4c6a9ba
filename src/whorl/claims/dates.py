"""When things existed: stamps over files of a dispute."""

from __future__ import annotations

from pathlib import Path

from whorl.attest.stamp import MOST_BYTES, Stamp, check_stamp, read_roots
from whorl.errors import InvalidFile
from whorl.storage import check_size, digest_file

__all__ = ["stamped"]


def stamped(path: Path, token: Path, roots: Path) -> Stamp:
    """The verified time-stamp of a file's bytes.

    Parameters:
        token: an authority's answer, or its token alone. roots: the certificates that are trusted, in PEM.

    Raises:
        UsageError: no such file.
        InvalidFile: the stamp is over other bytes, forged, or of an authority that these roots do not name.
    """
    digest = digest_file(path)
    check_size(token, MOST_BYTES)
    try:
        return check_stamp(token.read_bytes(), bytes.fromhex(digest), read_roots(roots))
    except InvalidFile as error:
        raise InvalidFile(f"{token}: {error}") from None
