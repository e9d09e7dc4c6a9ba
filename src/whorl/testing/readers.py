"""The contract of a reader of weights: what was written is read, in whole and in rows, and damage ends in one line."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.checkpoints.opening import open_checkpoint
from whorl.errors import UsageError, WhorlError
from whorl.testing.promises import promise

__all__ = ["check_reader"]

CUTS: Final = 24  # places at which a file is cut off, and at which bytes of it are exchanged


def check_reader(
    write: Callable[[Mapping[str, Tensor], Path], Path],
    *,
    open_file: Callable[[Path], Checkpoint] = open_checkpoint,
    tolerance: float = 0.0,
) -> None:
    """Raise `AssertionError` unless a reader keeps the contract.

    Parameters:
        write: puts float32 tensors into a file of the format within a folder and returns its path.
        open_file: opens such a file; by its suffix by default.
        tolerance: largest difference that the format makes, relative to the largest number of a tensor.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = {"first.weight": (64, 32), "first.bias": (64,), "second.weight": (32, 64)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = write(tensors, Path(folder))
        checkpoint = open_file(path)
        _check_contents(checkpoint, tensors, tolerance)
        _check_requests(checkpoint)
        del checkpoint
        _check_damage(path, open_file)


def _check_contents(checkpoint: Checkpoint, tensors: Mapping[str, Tensor], tolerance: float) -> None:
    name = f"the reader of {checkpoint.format}"
    missing = sorted(tensors.keys() - checkpoint.entries.keys())
    promise(not missing, f"{name} finds no {', '.join(missing)}")
    promise(not checkpoint.bytes_read, f"{name} reads {checkpoint.bytes_read} bytes before a tensor was asked for")
    for key, wanted in tensors.items():
        entry = checkpoint.entries[key]
        promise(
            entry.shape == tuple(wanted.shape), f"{name} says that {key} is {entry.shape}, not {tuple(wanted.shape)}"
        )
        whole = checkpoint.read(key)
        apart = float((whole - wanted).abs().max())
        allowed = tolerance * float(wanted.abs().max())
        promise(apart <= allowed, f"{name} reads {key} with a difference of {apart:g}; {allowed:g} is allowed")
        rows = [1, 2, len(wanted) - 1]
        promise(
            torch.equal(checkpoint.read(key, rows), whole[rows]), f"{name} reads other rows of {key} than the whole has"
        )
    promise(checkpoint.bytes_read, f"{name} does not count the bytes that it reads")


def _check_requests(checkpoint: Checkpoint) -> None:
    for wrong in (("no such tensor", None), ("first.weight", [64]), ("first.weight", [2, 1])):
        try:
            checkpoint.read(*wrong)
        except UsageError:
            continue
        raise AssertionError(f"the reader of {checkpoint.format} reads {wrong[0]!r}, rows {wrong[1]}")


def _check_damage(path: Path, open_file: Callable[[Path], Checkpoint]) -> None:
    sound = path.read_bytes()
    step = max(1, len(sound) // CUTS)
    header = range(0, min(len(sound), 400), 16)
    for place in (*range(0, len(sound), step), *header):
        _check_one(path, sound[:place], open_file, f"cut off after {place} bytes")
        _check_one(path, sound[:place] + b"\xff" * 8 + sound[place + 8 :], open_file, f"with 8 bytes of 255 at {place}")


def _check_one(path: Path, content: bytes, open_file: Callable[[Path], Checkpoint], what: str) -> None:
    path.write_bytes(content)
    try:
        checkpoint = open_file(path)
        for name in checkpoint.entries:
            checkpoint.read(name)
    except WhorlError as error:
        promise(str(error).isprintable(), f"a file {what} is refused in more than one line: {error}")
    except Exception as error:
        raise AssertionError(f"a file {what} ends in {type(error).__name__}: {error}") from error
