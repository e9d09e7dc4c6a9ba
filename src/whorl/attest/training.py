"""Training logs: what was fed, and what came out, fixed while a net learns.

A log is a folder. ``log.jsonl`` has a line of canonical JSON (RFC 8785) for the header, which claims a recipe, and one
for each checkpoint; every line is a leaf of a tree (`whorl.attest.merkle`), and ``root.json`` holds the tree's root and
size. Tensors lie beside it by the number of their step: ``states/000014.safetensors`` (weights, optimiser, states
of generators) and ``batches/000014.safetensors`` (what was fed since the checkpoint before). The root fixes recipe,
order and digests of all of it. A copy of ``root.json`` that somebody else stamped or kept is an anchor: what was logged
until then can't be rewritten without being found.

A log says how a net came to be. It proves no ownership: whoever copies the net and its log has both.

Source: Jia et al., *Proof-of-Learning: Definitions and Practice*, IEEE S&P 2021, which hashes neither the batches nor
the labels; here the raw bytes of both are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from whorl.attest.draw import Drawn, Role
from whorl.attest.merkle import Tree, leaf_hash
from whorl.errors import InvalidFile, UsageError
from whorl.storage import appending, canonical_json, check_size, one_line, read_json, write_whole

__all__ = ["Anchor", "Header", "LogEntry", "SegmentDraw", "TrainingLog", "begin_log", "read_anchor", "read_log"]

LINES, ROOT = "log.jsonl", "root.json"
MOST_BYTES: Final = 256 << 20  # of log.jsonl
MOST_LINE: Final = 8 << 20
MOST_ENTRIES: Final = 1 << 17
MOST_STEPS: Final = 100_000  # between two checkpoints
MOST_ANCHOR: Final = 4096

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=4000)]
Word = Annotated[str, Field(max_length=100)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1, le=10_000)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Header(_Document):
    """What a log claims of the whole training. The optimiser is one of ``torch.optim`` with these settings.

    ``recipe`` is one of whorl's zoo, and empty for a loop of one's own; ``learning_rate`` is the highest of any step,
    ``batch`` the most inputs of a step.
    """

    format: Literal[1] = 1
    recipe: Text = ""
    architecture: Text = ""
    input_shape: tuple[Side, Side, Side]
    classes: int = Field(ge=1, le=100_000)
    data: Text = ""
    optimiser: Word
    settings: Annotated[dict[Word, bool | Number | list[Number]], Field(max_length=20)]
    learning_rate: Rate
    batch: int = Field(ge=1, le=1_000_000)
    versions: Annotated[dict[Word, Word], Field(max_length=20)] = {}


class LogEntry(_Document):
    """A checkpoint: digests of the state after ``step`` steps, and of what was fed in the steps since the one before.

    ``rates``, ``losses`` and ``batches`` have an item for each of these steps; a batch is hashed with its labels.
    """

    step: int = Field(ge=0, le=1 << 40)
    weights: Digest
    optimiser: Digest
    random: Digest
    batches: Annotated[list[Digest], Field(max_length=MOST_STEPS)] = []
    rates: Annotated[list[Rate], Field(max_length=MOST_STEPS)] = []
    losses: Annotated[list[Number], Field(max_length=MOST_STEPS)] = []
    seconds: Rate = 0


class Anchor(_Document):
    """That the first ``size`` lines of a log have the root ``root``."""

    format: Literal[1] = 1
    size: int = Field(ge=1, le=MOST_ENTRIES)
    root: Digest


class TrainingLog:
    """A log whose lines were read and hashed. What its files of tensors hold is checked by who opens them.

    Raises, when it is made:
        InvalidFile: torn, rewritten since its root was written, or no log.
    """

    def __init__(self, folder: Path, lines: list[bytes], root: Anchor) -> None:
        self.folder = folder
        self.tree = Tree(leaf_hash(each) for each in lines)
        if len(lines) != root.size or self.tree.root().hex() != root.root:
            raise InvalidFile(f"{folder} is torn or was rewritten: its lines have another root than {ROOT} states")
        self.header = _parsed(Header, lines[0], folder, 0)
        self.entries = [_parsed(LogEntry, each, folder, number) for number, each in enumerate(lines[1:], 1)]
        self._check_steps()

    @property
    def root(self) -> str:
        """The root of all lines, in hexadecimal."""
        return self.tree.root().hex()

    @property
    def segments(self) -> int:
        """How many stretches between two checkpoints can be replayed."""
        return len(self.entries) - 1

    @property
    def steps(self) -> int:
        """How many steps were logged."""
        return self.entries[-1].step

    def state(self, step: int) -> Path:
        """Where the state after a step lies."""
        return self.folder / "states" / f"{step:06d}.safetensors"

    def fed(self, step: int) -> Path:
        """Where the batches lie that were fed in the steps up to this one."""
        return self.folder / "batches" / f"{step:06d}.safetensors"

    def follows(self, anchor: Anchor) -> None:
        """Raise `InvalidFile` where the log does not begin with the lines of an anchor that was kept elsewhere."""
        if anchor.size > len(self.tree) or self.tree.root(anchor.size).hex() != anchor.root:
            raise InvalidFile(f"{self.folder} was rewritten: its first {anchor.size} lines are not those of the anchor")

    def _check_steps(self) -> None:
        if len(self.entries) < 2 or self.entries[0].step != 0 or self.entries[0].batches:
            raise InvalidFile(
                f"{self.folder} holds no training: a log begins with step 0 and has a checkpoint after it"
            )
        if not self.entries[-1].rates:
            raise InvalidFile(f"{self.folder} ends in a checkpoint without a step")
        for before, after in zip(self.entries, self.entries[1:], strict=False):
            count = after.step - before.step
            if count < 1 or not len(after.batches) == len(after.rates) == len(after.losses) == count:
                raise InvalidFile(f"{self.folder}: step {after.step} does not follow step {before.step} batch by batch")


class LogWriter:
    """Adds lines to a new log. After each line ``root.json`` holds the root so far, to be stamped or given away.

    A writer that is stopped between both leaves a torn log, which is told from a whole one.
    """

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder = folder
        self._tree = Tree()
        if folder.is_dir() and next(folder.iterdir(), None) is not None:
            told = "a log" if (folder / ROOT).exists() else "other files"
            raise UsageError(f"{folder} holds {told} already; give another folder")
        (folder / "states").mkdir(parents=True)
        (folder / "batches").mkdir()
        self._add(header)

    def append(self, entry: LogEntry) -> None:
        """Add a checkpoint."""
        if len(self._tree) >= MOST_ENTRIES:
            raise UsageError(f"{self.folder} is full with {MOST_ENTRIES:,} lines; log every so many steps more")
        self._add(entry)

    def _add(self, document: _Document) -> None:
        line = canonical_json(document.model_dump(mode="json"))
        with appending(self.folder / LINES) as add:
            add(line + b"\n")
        self._tree.append(leaf_hash(line))
        anchor = Anchor(size=len(self._tree), root=self._tree.root().hex())
        write_whole(self.folder / ROOT, canonical_json(anchor.model_dump(mode="json")) + b"\n")


@dataclass(frozen=True)
class SegmentDraw(Drawn):
    """Which segments are replayed: drawn from the log's root and 32 bytes that nobody knew when it was fixed.

    Parameters:
        claim: the root, in hexadecimal.
        nonce: from ``secrets.token_bytes(32)``, made by whoever checks, after the root was given away.
    """

    claim: str
    nonce: bytes

    @property
    def withheld(self) -> tuple[Role, ...]:
        """Nobody: the one who checks draws alone."""
        return ()

    @property
    def tries(self) -> int:
        """One."""
        return 1

    @cached_property
    def seed(self) -> bytes:
        """32 bytes that everything drawn comes from."""
        return hashlib.sha256(b"whorl/draw/v1" + bytes.fromhex(self.claim) + self.nonce).digest()


def begin_log(folder: str | Path, header: Header) -> LogWriter:
    """A new log in a new or empty folder."""
    return LogWriter(Path(folder), header)


def read_log(folder: str | Path) -> TrainingLog:
    """The log of a folder.

    Raises:
        UsageError: there is none.
        InvalidFile: it is torn, was rewritten, or is too large.
    """
    folder = Path(folder)
    if not (folder / ROOT).is_file():
        raise UsageError(f"{folder} holds no training log ({ROOT}); make one: whorl log make RECIPE -o LOG")
    return TrainingLog(folder, list(_lines(folder / LINES)), read_anchor(folder / ROOT))


def read_anchor(path: str | Path) -> Anchor:
    """A root that was kept. Raises `UsageError` where there is no file, `InvalidFile` for what is no root."""
    document = read_json(path, MOST_ANCHOR)
    try:
        return Anchor.model_validate(document)
    except ValidationError as error:
        raise InvalidFile(f"{path} is no root of a training log: {one_line(error)}") from None


def _lines(path: Path) -> Iterator[bytes]:
    check_size(path, MOST_BYTES)
    with path.open("rb") as file:
        for number in range(MOST_ENTRIES + 1):
            line = file.readline(MOST_LINE)
            if not line:
                return
            if number == MOST_ENTRIES or not line.endswith(b"\n"):
                raise InvalidFile(f"{path} is torn after line {number}, or has too many or too long lines")
            yield line[:-1]


def _parsed(kind: type[Any], line: bytes, folder: Path, number: int) -> Any:
    try:
        document = json.loads(line)
        if canonical_json(document) != line:
            raise InvalidFile(f"{folder}: line {number} is not written as canonical JSON")
        return kind.model_validate(document)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidFile):
            raise
        raise InvalidFile(f"{folder}: line {number} is no line of a training log: {one_line(error)}") from None
