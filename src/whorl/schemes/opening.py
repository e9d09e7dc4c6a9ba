"""Fingerprint files with all that their scheme promises of them checked: the door that every verb uses."""

from __future__ import annotations

from pathlib import Path

from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints import files
from whorl.fingerprints.joined import fingerprint_of
from whorl.schemes import SCHEMES
from whorl.storage import one_line
from whorl.types import Fingerprint

__all__ = ["read_fingerprint"]


def read_fingerprint(path: str | Path) -> Fingerprint:
    """Read a fingerprint of any released format, and check what its scheme declares of settings and tensors.

    Raises:
        UsageError: no such file.
        InvalidFile: not a fingerprint, damaged, untrue, of a scheme that is not installed, or written by a newer whorl.
    """
    fingerprint = files.read_fingerprint(path)
    try:
        SCHEMES.make(fingerprint.scheme).check_fingerprint(fingerprint)
        _check_candidates(fingerprint)
    except (ValueError, UsageError) as error:
        raise InvalidFile(f"{path} is not a sound fingerprint: {one_line(error)}") from None
    return fingerprint


def _check_candidates(fingerprint: Fingerprint) -> None:
    """Whether each candidate of a lineup by a scheme has a fingerprint as that scheme declares it."""
    if (lineup := fingerprint.candidates) is None or not (by := lineup.settings.get("by")):
        return
    scheme = SCHEMES.make(str(by))
    for place in range(len(lineup.digests)):
        scheme.check_fingerprint(fingerprint_of(fingerprint, str(by), place))
