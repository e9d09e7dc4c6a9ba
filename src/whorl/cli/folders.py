"""Models that are named on the command line one by one, or by a folder of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from whorl.errors import UsageError, WhorlError

if TYPE_CHECKING:
    from whorl.oracles.base import Oracle

__all__ = ["is_collection", "models_in"]

SUFFIXES = {".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".onnx", ".skops", ".toml"}
DESCRIPTION = "model.toml"
MOST = 100_000  # files that a folder of models is searched for


def models_in(given: Sequence[str], opened: Callable[[str], Oracle]) -> tuple[dict[str, Oracle], dict[str, str]]:
    """The models by path, and why files in folders of them were left out."""
    models: dict[str, Oracle] = {}
    skipped: dict[str, str] = {}
    for each in given:
        several = is_collection(Path(each))
        models |= _opened_in(Path(each), opened, skipped) if several else {each: opened(each)}
    return models, skipped


def is_collection(path: Path) -> bool:
    """Whether a path is a folder of models, and not one model with its description."""
    return path.is_dir() and not (path / DESCRIPTION).is_file()


def _opened_in(folder: Path, opened: Callable[[str], Oracle], skipped: dict[str, str]) -> dict[str, Oracle]:
    """The models below a folder by path; what is none, or cannot be opened, goes to ``skipped`` with the reason."""
    found: dict[str, Oracle] = {}
    for path in _candidates(folder):
        if path.name.startswith("."):
            skipped[str(path)] = "its name begins with a dot"
        elif path.is_file() and path.suffix.lower() not in SUFFIXES:
            skipped[str(path)] = f"no model by its suffix ({', '.join(sorted(SUFFIXES))})"
        else:
            try:
                found[str(path)] = opened(str(path))
            except WhorlError as error:
                skipped[str(path)] = str(error)
    if not found:
        why = "".join(f"; {path}: {reason}" for path, reason in list(skipped.items())[:1])
        raise UsageError(f"{folder} holds no model that can be opened{why}")
    return found


def _candidates(folder: Path) -> list[Path]:
    """The files below a folder, sorted; a folder with a model.toml stands for its files. Links are not followed."""
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        if DESCRIPTION in files:
            folders.clear()
            found.append(Path(place))
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files]
        if len(found) > MOST:
            raise UsageError(f"{folder} holds more than {MOST:,} files; give a folder of models alone")
    return sorted(found)
