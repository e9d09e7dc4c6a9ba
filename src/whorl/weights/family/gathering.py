"""The checkpoints of a folder: each that can be read, once, with its copies; and each that cannot, with the reason."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final

import torch

from whorl.checkpoints.checkpoint import Checkpoint, UnusableTensor
from whorl.checkpoints.crowds import CROWD, surplus
from whorl.checkpoints.opening import declared_base, foreign, is_adapter, open_checkpoint, suffix_of, wholes
from whorl.checkpoints.readers.adapter import ADAPTER_CONFIG
from whorl.checkpoints.roles import Weights
from whorl.checkpoints.views import NETS, UNUSABLE, passed_over, unread_in, without
from whorl.errors import UsageError, WhorlError
from whorl.storage import no_file, one_line
from whorl.weights.pairing import vocabulary

__all__ = ["Member", "find", "gather", "member_of", "words"]

DEEPEST: Final = 8  # folders in folders
STEP: Final = 1024  # rows in memory at a time
PIECE: Final = re.compile(r".*-\d{5}-of-\d{5}\.\w+", re.DOTALL)
NO_WEIGHTS: Final = re.compile(r"(training_args|optimizer|scheduler|rng_state.*|adapter_model)\.\w+")  # trainers' files


@dataclass(frozen=True)
class Member:
    """One net of a folder.

    ``digest`` is that of its tensors, ``identity`` of all that a comparison depends on; ``copies`` are the other places
    in the folder that hold equal tensors under equal names. ``base`` is set for an adapter: the net of the folder that
    it is read with, because its configuration names it so. ``architecture`` is what its tensors were read as, and
    ``left_out`` names tensors with NaN or infinities, which are read nowhere.
    """

    name: str
    checkpoint: Checkpoint = field(repr=False)
    digest: str
    identity: str
    copies: tuple[str, ...] = ()
    base: str = ""
    architecture: str = ""
    left_out: tuple[str, ...] = ()


def find(folder: Path) -> Iterator[Path]:
    """Files and folders that hold, or by their names should hold, one checkpoint each, in order.

    Links to folders are followed one step, no further.

    Raises `UsageError` where ``folder`` is none.
    """
    if not folder.is_dir():
        told = f"{folder} is no folder" if folder.exists() else no_file(folder)
        raise UsageError(f"{told}. Give a folder that holds checkpoints, each a file or a folder")
    yield from _find(folder, 0)


def _find(folder: Path, depth: int) -> Iterator[Path]:
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in inside if not path.is_dir() and not NO_WEIGHTS.fullmatch(path.name)]
    read = [path for path in files if suffix_of(path.name)]
    if any((folder / name).is_file() for name in (*wholes(), ADAPTER_CONFIG)) or (
        read and all(PIECE.fullmatch(path.name) for path in read)
    ):
        yield folder  # what lies beside it is the same net in other formats
    else:
        yield from (path for path in files if path in read or foreign(path.name))
    for path in inside:
        if path.is_dir() and depth < DEEPEST and not folder.is_symlink():
            yield from _find(path, depth + 1)


def gather(
    folder: Path, progress: Callable[[str, int, int], None] = lambda *_: None
) -> tuple[list[Member], dict[str, str]]:
    """Every net under ``folder``, and why others cannot be read, by name (the path below the folder).

    All tensors are read once, for their digest. Of equal ones the shortest name stands for all. Adapters come last, as
    then their bases are known.
    """
    paths = sorted(find(folder), key=is_adapter)
    found: dict[str, list[Member]] = {}
    skipped: dict[str, str] = {}
    for done, path in enumerate(paths):
        progress("checkpoints", done, len(paths))
        name = path.relative_to(folder).as_posix() if path != folder else path.resolve().name
        try:
            base = _base(path, [_joined(equal) for equal in found.values()]) if is_adapter(path) else None
            member = _member(name, open_checkpoint(path, base=base and base.checkpoint), base)
        except Exception as error:  # whatever is wrong with one file of thousands must not cost the others
            skipped[name] = words(error).removeprefix(f"{path} ").removeprefix(f"{path}: ")
        else:
            found.setdefault(member.digest, []).append(member)
            if member.checkpoint.left_out:
                skipped[name] = f"only {unread_in(member.checkpoint)}; all else was read"
            elif member.left_out:
                skipped[name] = f"only {', '.join(member.left_out)}, for NaN or an infinity; all else was read"
            elif small := passed_over(member.checkpoint):
                skipped[name] = f"only its nets {', '.join(map(repr, small))}, for {NETS} in it are larger"
            elif more := surplus(member.checkpoint):
                skipped[name] = f"only {len(more):,} of its tensors, for there are more than {CROWD:,}: the smallest"
    progress("checkpoints", len(paths), len(paths))
    return sorted((_joined(equal) for equal in found.values()), key=lambda member: member.name), skipped


def words(error: Exception) -> str:
    """What was wrong, on one line; with its type where nobody foresaw it."""
    told = one_line(error)
    return told if isinstance(error, WhorlError | OSError) else f"{type(error).__name__}: {told}"


def member_of(path: Path, name: str) -> Member:
    """One net by itself. Raises what opening and reading it does."""
    return _member(name, open_checkpoint(path), None)


def _base(path: Path, members: list[Member]) -> Member:
    """The net of the folder that an adapter names: the last part of the name, or all of it where several have that."""
    told = declared_base(path)
    named = [(name, each) for each in members if not each.base for name in (each.name, *each.copies)]
    last = [(name, each) for name, each in named if told and _last(told) == _last(name)]
    whole = [each for name, each in last if told == name] or [each for _, each in last]
    if len({each.digest for each in whole}) != 1:
        many = f"{len(whole)} different nets" if whole else "no net that could be read"
        raise UsageError(f"{path} is an adapter of {told[-100:]!r}, and {many} of this folder has that name")
    return whole[0]


def _last(name: str) -> str:
    last = PurePosixPath(name).name
    return last.removesuffix(suffix_of(last) or "")


def _joined(equal: list[Member]) -> Member:
    first, *rest = sorted(equal, key=lambda member: (len(member.name), member.name))
    return replace(first, copies=tuple(each.name for each in rest))


def _member(name: str, checkpoint: Checkpoint, base: Member | None) -> Member:
    left_out: list[str] = []
    while True:
        try:
            digest = _digest(checkpoint)
            break
        except UnusableTensor as error:  # as `whorl.weights.several` does with pairs
            if len(left_out) == UNUSABLE:
                raise
            checkpoint = without(checkpoint, error.tensor)
            left_out.append(error.tensor)
    tokens = vocabulary(checkpoint.path)
    structure = Weights(checkpoint).structure
    plan = json.dumps([digest, repr(structure), tokens], sort_keys=True)
    identity = hashlib.sha256(plan.encode()).hexdigest()
    return Member(
        name,
        checkpoint,
        digest,
        identity,
        base=base.name if base else "",
        architecture=structure.architecture,
        left_out=tuple(left_out),
    )


def _digest(checkpoint: Checkpoint) -> str:
    """SHA-256 over names, types, shapes and numbers, in blocks of rows; `InvalidFile` for numbers that are not finite.

    The same net in another type or format is no copy: it is compared, and found to be cast.
    """
    digest = hashlib.sha256()
    if checkpoint.left_out:  # what is not read may differ, so that it is nobody's copy
        digest.update(json.dumps([str(checkpoint.path.resolve()), *checkpoint.left_out]).encode() + b"\n")
    for name, entry in checkpoint.entries.items():
        digest.update(json.dumps([name, entry.dtype, entry.shape]).encode() + b"\n")
        height = entry.shape[0] if entry.shape else 1
        for first in range(0, height, STEP):
            rows = slice(first, first + STEP) if entry.shape else None
            digest.update(checkpoint.read(name, rows).reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
