"""Paths that a verb writes to, refused before its work where they cannot be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from whorl.errors import UsageError, WhorlError

if TYPE_CHECKING:
    from whorl.attest.keys import Ed25519PrivateKey

__all__ = ["check_file", "check_folder", "check_new_fingerprint", "check_no_file", "explained", "private_key"]

REASONS = {
    errno.EISDIR: "is a folder; give the path of a file",
    errno.EEXIST: "is no folder, and one is needed; give another path",
    errno.ENOTDIR: "lies below what is no folder; give another path",
    errno.EACCES: "is not yours to read or write; give another path, or change its permissions",
    errno.EPERM: "is not yours to read or write; give another path, or change its permissions",
    errno.EROFS: "lies on a disk that is not written to; give another path",
    errno.ENOSPC: "lies on a disk that is full; make room, or give another path",
    errno.EDQUOT: "would take more room than you are given; make room, or give another path",
    errno.EFBIG: "would be larger than a file may be here; give another path, or allow more: ulimit -f unlimited",
}


def explained(error: OSError) -> str:
    """What the operating system refused, in a line that says what to do; its own words where there are no better."""
    reason = REASONS.get(error.errno or 0)
    if reason is None or not error.filename:
        return f"{error.filename or ''}: {error.strerror or error}".removeprefix(": ")
    return f"{error.filename} {reason}"


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key of who signs; the password of an encrypted one is read from the variable WHORL_KEY_PASSWORD.

    Raises what `whorl.attest.keys.read_private_key` raises.
    """
    from whorl.attest.keys import read_private_key

    password = os.environ.get("WHORL_KEY_PASSWORD")
    return read_private_key(path, password.encode() if password else None)


def check_file(path: Path, option: str) -> None:
    """Raise `UsageError` where no file can be written at a path; ``option`` is how that was given."""
    if path.is_dir():
        raise UsageError(f"{option}: {path} {REASONS[errno.EISDIR]}")
    _check(path, option)


def check_new_fingerprint(path: Path) -> None:
    """Raise `UsageError` where a fingerprint would take the place of one that suspects were held against, or of what is
    none."""
    from whorl.fingerprints.looks import looks_path

    if (log := looks_path(path)).exists():
        raise UsageError(
            f"{log} says what was held against the fingerprint whose place {path} would take: write the new one "
            "elsewhere, or move both away"
        )
    if path.is_file() and path.stat().st_size and not _holds_fingerprint(path):
        raise UsageError(f"{path} is there and no fingerprint: it would be written over; give another path")


def _holds_fingerprint(path: Path) -> bool:
    from whorl.storage import read_metadata

    try:
        return "whorl" in read_metadata(path)
    except (WhorlError, OSError):
        return False


def check_folder(path: Path, option: str) -> None:
    """Raise `UsageError` where no files can be written below a path."""
    check_no_file(path, option)
    _check(path, option)


def check_no_file(path: Path, option: str) -> None:
    """Raise `UsageError` where something else than a folder stands at a path that is only read."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"{option}: {path} {REASONS[errno.EEXIST]}")


def _check(path: Path, option: str) -> None:
    there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if there != path.absolute() and not there.is_dir():
        raise UsageError(f"{option}: {path} {REASONS[errno.ENOTDIR]}")
    if not os.access(there, os.W_OK):
        raise UsageError(f"{option}: {path} {REASONS[errno.EACCES]}")
