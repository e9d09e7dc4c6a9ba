"""Paths that a verb writes to, refused before its work where they cannot be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import typer

__all__ = ["explained", "file_to_write", "files_to_write", "folder_to_write"]

REASONS = {
    errno.EISDIR: "is a folder; give the path of a file",
    errno.EEXIST: "is no folder, and one is needed; give another path",
    errno.ENOTDIR: "lies below what is no folder; give another path",
    errno.EACCES: "is not yours to read or write; give another path, or change its permissions",
    errno.EPERM: "is not yours to read or write; give another path, or change its permissions",
    errno.EROFS: "lies on a disk that is not written to; give another path",
    errno.ENOSPC: "lies on a disk that is full; make room, or give another path",
}


def explained(error: OSError) -> str:
    """What the operating system refused, in a line that says what to do; its own words where there are no better."""
    reason = REASONS.get(error.errno or 0)
    if reason is None or not error.filename:
        return f"{error.filename or ''}: {error.strerror or error}".removeprefix(": ")
    return f"{error.filename} {reason}"


def file_to_write(path: Path | None) -> Path | None:
    """The path, if a file can be written there; `typer.BadParameter` otherwise."""
    if path is not None:
        if path.is_dir():
            raise typer.BadParameter(f"{path} {REASONS[errno.EISDIR]}")
        _refuse(path)
    return path


def files_to_write(paths: list[Path] | None) -> list[Path] | None:
    """The same of several."""
    for path in paths or []:
        file_to_write(path)
    return paths


def folder_to_write(path: Path | None) -> Path | None:
    """The path, if files can be written below it; `typer.BadParameter` otherwise."""
    if path is not None:
        if path.exists() and not path.is_dir():
            raise typer.BadParameter(f"{path} {REASONS[errno.EEXIST]}")
        _refuse(path)
    return path


def _refuse(path: Path) -> None:
    """Refuse a path below what is no folder, or where this user may not write."""
    there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if there != path.absolute() and not there.is_dir():
        raise typer.BadParameter(f"{path} {REASONS[errno.ENOTDIR]}")
    if not os.access(there, os.W_OK):
        raise typer.BadParameter(f"{path} {REASONS[errno.EACCES]}")
