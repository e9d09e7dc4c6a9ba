"""Twins by a training script of one's own: run it once for each secret seed, keep what came of it, go on where it
stopped.

A folder holds one sub-folder for each twin: the model that the script wrote, what it printed, and ``run.json`` with the
seed, the digest of the model, the time it took, and digests of the files that the command names. The folder is as
secret as the victim: whoever knows a twin can hide behind it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError

from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints.parts import Document, Name, Text
from whorl.storage import digest_file, no_file, read_json, write_json

__all__ = ["Run", "run_twins", "secret_seeds"]

MOST: Final = 9_999  # twins
MOST_LETTERS: Final = 4096  # of a command
BITS: Final = 128  # of a secret seed
LOG: Final = "log.txt"
MOST_LOGGED: Final = 1 << 20  # bytes of what a script prints that are kept from each end
KEPT: Final = "run.json"
SEEDS: Final = "seeds.json"
PATIENCE: Final = 5  # seconds that an interrupted script has to end by itself
SHOWN: Final = 400  # letters of a failed script's last words


Seed = Annotated[str, Field(pattern=r"^[0-9]{1,39}$")]


class Run(Document):
    """One twin: ``seed`` in decimal, ``model`` the name of its file, ``inputs`` digests of files that were read."""

    seed: Seed
    model: Name
    digest: Name
    seconds: Annotated[float, Field(ge=0)]
    command: Text
    inputs: Annotated[dict[Text, Name], Field(max_length=1000)]
    machine: Name


class _Seeds(Document):
    seeds: Annotated[list[Seed], Field(max_length=10_000)]


@dataclass(frozen=True)
class _Place:
    """Where one twin is made."""

    folder: Path
    command: str
    suffix: str
    inputs: dict[str, str]

    @property
    def model(self) -> Path:
        return self.folder / f"model{self.suffix}"

    def kept(self) -> Run | None:
        """What an earlier run left; None where it did not end, or was of another command or other files."""
        path = self.folder / KEPT
        if not path.is_file():
            return None
        try:
            run = Run.model_validate(read_json(path, max_bytes=1 << 20))
        except ValidationError:
            raise InvalidFile(f"{path} is no record of a twin; move {self.folder} away to train it anew") from None
        if run.command != self.command:
            raise UsageError(
                f"{self.folder} holds a twin of another command: all twins are made alike, so give another --folder, "
                "or remove this one to train all of them anew"
            )
        if changed := [name for name, _ in {*run.inputs.items()} ^ {*self.inputs.items()}]:
            raise UsageError(
                f"{min(changed)} has changed since the twin in {self.folder} was made from it: all twins are made "
                "alike, so put it back, give another --folder, or remove this one to train all of them anew. A file "
                "that the script writes must not be named in the command"
            )
        return run if self.model.exists() and _digest(self.model) == run.digest else None


def run_twins(
    command: str,
    count: int,
    folder: Path,
    *,
    suffix: str = ".safetensors",
    inputs: Sequence[Path] = (),
    check: Callable[[Path], None] = lambda _: None,
    progress: Callable[[int, Run], None] = lambda *_: None,
) -> list[Path]:
    """Train ``count`` twins with ``command`` and return the paths of their models.

    Parameters:
        command: as it would be typed, with ``{out}`` where the path of the model goes and ``{seed}`` where its seed
            goes: 128 secret bits in decimal. ``{seed32}`` and ``{seed63}`` are its lowest bits, for what takes no more.
            No shell sees it.
        folder: where twins are kept; those that are there already, made by this command, are not trained again.
        suffix: how the script names its model.
        inputs: files and folders that every twin is made from (data); files that the command names are seen to anyway.
            Where one changes between twins nothing goes on.
        check: called with each model before the next is trained; raises where it can't stand in a lineup.
        progress: called after each twin with its number and how it came to be.

    Raises:
        UsageError: the suffix is none, the command names neither seed nor output, fails, or gives two equal models.
    """
    if not re.fullmatch(r"(\.\w+)+", suffix):
        raise UsageError(f"a suffix begins with a dot, as in .pt; this is {suffix!r}")
    words = _words(command)
    digests = _digests([*inputs, *(Path(word) for word in words if Path(word).is_file())])
    made: dict[str, int] = {}
    paths: list[Path] = []
    for number, seed in enumerate(secret_seeds(folder, count)):
        place = _Place(folder / f"twin-{number:04d}", command, suffix, digests)
        run = place.kept() or _train(place, words, seed)
        check(place.model)
        if run.digest in made:
            raise UsageError(
                f"twin {number} has the weights of twin {made[run.digest]}: the seed does not reach the training. Use "
                "{seed}, {seed63} or {seed32} for initial weights, order and augmentation"
            )
        made[run.digest] = number
        paths.append(place.model)
        progress(number, run)
    if _digests([Path(name) for name in digests]) != digests:
        raise UsageError("a file that twins are made from changed meanwhile; begin anew with another --folder")
    return paths


def secret_seeds(folder: Path, count: int) -> list[int]:
    """``count`` seeds of 128 random bits, drawn once and kept in the folder; more are added to those that are there.

    Raises:
        InvalidFile: the folder's list of seeds is damaged.
    """
    if count > MOST:
        raise UsageError(f"a lineup holds {MOST:,} twins at most; these are {count:,}")
    path = folder / SEEDS
    folder.mkdir(parents=True, exist_ok=True)
    known: list[int] = []
    if path.is_file():
        try:
            known = [int(each) for each in _Seeds.model_validate(read_json(path, max_bytes=1 << 20)).seeds]
        except ValidationError:
            raise InvalidFile(f"{path} is no list of seeds; move {folder} away to draw others") from None
    if len(known) < count:
        known += [secrets.randbits(BITS) for _ in range(count - len(known))]
        write_json(path, {"seeds": [str(each) for each in known]})
        path.chmod(0o600)
    return known[:count]


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command, posix=os.name != "nt")
    except ValueError as error:
        raise UsageError(f"the command can't be split into words: {error}; quote it as a shell would") from None
    if not words or "{out}" not in command or "{seed" not in command:
        raise UsageError(
            "a command for twins has {seed} and {out} in it, as in 'python train.py --seed {seed} --out {out}'; this "
            f"is {command!r}"
        )
    if len(command) > MOST_LETTERS:
        raise UsageError(f"a command has {MOST_LETTERS:,} letters at most; put this one into a script")
    if shutil.which(words[0]) is None:
        raise UsageError(f"{words[0]} can't be run: there is no such program here")
    return words


def _train(place: _Place, words: Sequence[str], seed: int) -> Run:
    shutil.rmtree(place.folder, ignore_errors=True)
    place.folder.mkdir(parents=True)
    place.folder.chmod(0o700)
    fields = {
        "{out}": str(place.model.absolute()),
        "{seed}": str(seed),
        "{seed63}": str(seed % 2**63),
        "{seed32}": str(seed % 2**32),
    }
    started = time.perf_counter()
    code = _run([_filled(word, fields) for word in words], place.folder / LOG)
    if code:
        raise UsageError(f"the command ended with {code}: {_last_words(place.folder / LOG)}")
    if not place.model.exists():
        raise UsageError(
            f"the command ended and left no {place.model.name} at {{out}}; --suffix says how your script names a model"
        )
    run = Run(
        seed=str(seed),
        model=place.model.name,
        digest=_digest(place.model),
        seconds=round(time.perf_counter() - started, 3),
        command=place.command,
        inputs=place.inputs,
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )
    write_json(place.folder / KEPT, run.model_dump())
    return run


def _run(words: Sequence[str], log: Path) -> int:
    """The exit code of a command. What it starts and leaves behind ends with it, and so it does by Ctrl-C."""
    with log.open("wb") as file:
        started = subprocess.Popen(
            words, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            return started.wait()
        finally:
            _end(started)
            _shorten(log)


def _end(started: subprocess.Popen[bytes]) -> None:
    """End a command that runs still, and whatever it started."""
    if started.poll() is None:
        started.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(PATIENCE)
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left of it
            os.killpg(started.pid, signal.SIGKILL)
    else:
        started.kill()
    started.wait()


def _shorten(log: Path) -> None:
    """Keep the first and the last of what a script printed."""
    size = log.stat().st_size
    if size <= 2 * MOST_LOGGED:
        return
    with log.open("r+b") as file:
        file.seek(size - MOST_LOGGED)
        last = file.read()
        file.seek(MOST_LOGGED)
        file.write(f"\n... {size - 2 * MOST_LOGGED:,} bytes are left out ...\n".encode() + last)
        file.truncate()


def _filled(word: str, fields: dict[str, str]) -> str:
    for name, value in fields.items():
        word = word.replace(name, value)
    return word


def _last_words(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{(lines[-1] if lines else 'it said nothing')[:SHOWN]} (all of it: {log})"


def _digests(paths: Sequence[Path]) -> dict[str, str]:
    for path in paths:
        if not path.exists():
            raise UsageError(f"{no_file(path)}. Every twin would be made from it")
    return {str(path): _digest(path) for path in paths}


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their names."""
    if path.is_file():
        return digest_file(path)
    whole = hashlib.sha256()
    for each in sorted(each for each in path.rglob("*") if each.is_file()):
        whole.update(f"{each.relative_to(path).as_posix()} {digest_file(each)}\n".encode())
    return whole.hexdigest()
