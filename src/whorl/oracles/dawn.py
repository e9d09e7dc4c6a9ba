"""A service that marks whoever copies it: a small share of inputs is answered with another label, by a secret key.

Paper: S. Szyller, B. G. Atli, S. Marchal, N. Asokan, *DAWN: Dynamic Adversarial Watermarking of Neural Networks*, ACM
Multimedia 2021, arXiv 1906.00830. Which inputs, and which label they get, follows from HMAC-SHA-256 under the key of
the input's *cell*, a coarse form of it, so that asking again, or about a near duplicate, tells nothing new. A net that
learns from the answers learns the altered ones too; those that were altered are its mark, and `Alterations` keeps them.

**What is drawn, and when.** The key is fixed before the first answer; to show that nobody chose it, it is taken from a
draw (`key_of`) for a claim that was made before. From the key alone follow, for each cell, whether it is altered and
the *offset* k, uniform over 0, ..., C - 2: the answer is label + 1 + k modulo C, the label being the model's own. The
client chooses the inputs, and the model gives the labels; neither depends on offsets of cells that were not asked yet.
So a suspect that learned nothing of the answers gives label + 1 + k with probability at most 1/(C - 1) for each cell,
whatever else it knows, and the matches are at most Binomial(n, 1/(C - 1)): a null by design, up to telling
HMAC-SHA-256 from a random function. It takes every altered cell that was logged, or a choice that does not look at
offsets. The first input of each cell counts, and no other. An owner who tries several keys multiplies p.

Changed: the paper's cells are of binarised embeddings; here each is the mean of a block of the picture, in steps whose
origin is drawn from the key. The paper alters labels only for queries of one client; here all clients are answered
alike, so that two of them who compare answers learn nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from whorl.attest.draw import Draw
from whorl.detection.design import Design, DesignTest
from whorl.errors import InvalidFile, UsageError
from whorl.oracles.base import Chunk, Oracle
from whorl.oracles.wrappers import Wrapper
from whorl.storage import read_tensors, write_tensors
from whorl.types import Access

__all__ = ["Alterations", "Cells", "Dawn", "key_of", "read_alterations"]

LEAST_KEY: Final = 16  # bytes
KEY: Final = 32
WORDS: Final = 1 << 64
MOST: Final = 100_000  # alterations of a log
MOST_BYTES: Final = 1 << 30


def key_of(draw: Draw, name: str) -> bytes:
    """The 32-byte key that a draw gives for the mark of this name: as many of its labels below 256."""
    return bytes(draw.labels(KEY, 256, name))


@dataclass(frozen=True)
class Cells:
    """Which cell an input lies in, and what the key says of it.

    Parameters:
        key: at least 16 bytes.
        classes: C, at least 3; of two classes there is but one other label, and no null.
        share: of cells that are altered, in [0, 1].
        grid: blocks along each side of a picture, or as many as there are pixels.
        levels: steps of a block's mean for one unit of brightness.

    Raises:
        UsageError: a setting out of range.
    """

    key: bytes
    classes: int
    share: float = 0.005
    grid: int = 4
    levels: int = 4

    def __post_init__(self) -> None:
        if len(self.key) < LEAST_KEY:
            raise UsageError(f"the key has at least {LEAST_KEY} bytes, as of secrets.token_bytes(32)")
        if self.classes < 3:
            raise UsageError(
                f"other labels are drawn from at least two: a model of 3 classes is needed, not {self.classes}"
            )
        if not 0 <= self.share <= 1 or not 1 <= self.grid <= 64 or not 1 <= self.levels <= 255:
            raise UsageError(
                "a share in [0, 1] of cells is altered, of 1..64 blocks along each side and 1..255 levels; given are "
                f"{self.share}, {self.grid} and {self.levels}"
            )

    def of(self, inputs: Tensor) -> list[bytes]:
        """The cell of each of n inputs ``[n, c, h, w]``: a step of 32 bits for each channel and block."""
        count, _, height, width = inputs.shape
        shape = (min(self.grid, height), min(self.grid, width))
        means = adaptive_avg_pool2d(inputs.detach().cpu().double(), shape).reshape(count, -1)
        origins = torch.tensor(
            [int.from_bytes(self._tag(b"origin", n.to_bytes(4, "big"))[:4], "big") for n in range(means.shape[1])]
        )
        steps = (means * self.levels + origins.double() / 2**32).floor().clamp(-(2**31), 2**31 - 1)
        return [row.tobytes() for row in steps.int().numpy().astype(">i4")]

    def offset(self, cell: bytes) -> int | None:
        """k in 0..C-2 where the cell is altered, else None.

        Of the tag's four words of 64 bits, big-endian, the first chooses the cell if it is below share * 2^64. k is the
        first other one that is below the largest multiple of C - 1, modulo C - 1; or the last, with probability below
        (C / 2^64)^3.
        """
        tag = self._tag(b"cell", cell)
        words = [int.from_bytes(tag[at : at + 8], "big") for at in range(0, KEY, 8)]
        if words[0] >= self.share * WORDS:
            return None
        choices = self.classes - 1
        whole = WORDS - WORDS % choices
        return next((word for word in words[1:] if word < whole), words[-1]) % choices

    def _tag(self, purpose: bytes, message: bytes) -> bytes:
        return hmac.digest(self.key, b"whorl/dawn/v1/" + purpose + b"/" + message, "sha256")


class Dawn(Wrapper):
    """Answers as ``inner`` does, but for a share of cells whose inputs get another label, and keeps what it altered.

    Of probabilities, those of the predicted and of the other class are exchanged. Grants probabilities at most.

    Parameters:
        cells: the key, the share and the cells.
        most: alterations that are kept; beyond them inputs are altered and counted, and not kept.

    Raises:
        UsageError: a model of other classes, of another task, or of inputs that are no pictures or rows.
    """

    def __init__(self, inner: Oracle, cells: Cells, *, most: int = 2000) -> None:
        if inner.task != "classification" or cells.classes != inner.classes or len(inner.space.shape) != 3:
            raise UsageError(
                f"these cells are for a classifier of {cells.classes} classes and pictures; {inner.name} has "
                f"{inner.classes} outputs and takes {inner.space}"
            )
        if not 1 <= most <= MOST:
            raise UsageError(f"1..{MOST:,} alterations can be kept, not {most}")
        # Of the key nothing may be told, neither by a record nor by a message.
        change = f"Dawn(share={cells.share}, grid={cells.grid}, levels={cells.levels})"
        super().__init__(inner, access=min(inner.access, Access.PROBABILITIES), change=change)
        self.cells, self.most = cells, most
        self.altered = 0
        """Inputs that got another label so far, repetitions included."""
        self._kept: dict[bytes, tuple[Tensor, int]] = {}

    @property
    def log(self) -> Alterations:
        """What was altered so far, in the order asked.

        Raises:
            UsageError: nothing was.
        """
        if not self._kept:
            raise UsageError(f"{self.name} altered none of {self.queries_spent} answers yet; there is no log")
        inputs, labels = zip(*self._kept.values(), strict=True)
        offsets = [cast(int, self.cells.offset(cell)) for cell in self._kept]
        own = torch.tensor(labels)
        told = (own + 1 + torch.tensor(offsets)) % self.classes
        return Alterations(torch.stack(inputs), own, told, self.classes, self.queries_spent, self.altered)

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        for positions, answers in self.inner.stream(inputs):
            yield positions, self._treat(inputs[positions], self._granted(answers))

    def _granted(self, answers: Tensor) -> Tensor:
        return answers.softmax(1) if self.inner.access > Access.PROBABILITIES else answers

    def _treat(self, inputs: Tensor, answers: Tensor) -> Tensor:
        offsets = {
            place: (cell, offset)
            for place, cell in enumerate(self.cells.of(inputs))
            if (offset := self.cells.offset(cell)) is not None
        }
        if not offsets:
            return answers
        places = torch.tensor(list(offsets))
        labels = (answers if self.access is Access.LABELS else answers.argmax(1))[places]
        for place, label in zip(offsets, labels.tolist(), strict=True):
            self._keep(offsets[place][0], inputs[place], label)
        self.altered += len(offsets)
        told = (labels + 1 + torch.tensor([offset for _, offset in offsets.values()])) % self.classes
        treated = answers.clone()
        if self.access is Access.LABELS:
            treated[places] = told
            return treated
        treated[places, told], treated[places, labels] = answers[places, labels], answers[places, told]
        return treated

    def _keep(self, cell: bytes, picture: Tensor, label: int) -> None:
        # Of one cell there is one offset, which counts once.
        if cell not in self._kept and len(self._kept) < self.most:
            self._kept[cell] = (picture.detach().cpu().clone(), label)


class _Counts(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    classes: int = Field(ge=3, le=1_000_000)
    asked: int = Field(ge=1)
    altered: int = Field(ge=1)


@dataclass(frozen=True, eq=False)
class Alterations:
    """What a `Dawn` altered: the trigger set of a mark.

    Shape:
        inputs: ``[n, c, h, w]``, one for each cell, in the order asked.
        labels: ``[n]`` int64, the model's own. told: ``[n]`` int64, what was answered instead.

    Attributes:
        asked: inputs that the service answered. altered: those of them that were altered, repetitions included.
    """

    inputs: Tensor
    labels: Tensor
    told: Tensor
    classes: int
    asked: int
    altered: int

    @property
    def offsets(self) -> tuple[int, ...]:
        """k of each, in 0..C-2."""
        return tuple(((self.told - self.labels - 1) % self.classes).tolist())

    def shown_by(self, cells: Cells) -> str:
        """Why this log is not what the key made of these inputs and labels; empty where it is, to the last cell."""
        found = cells.of(self.inputs)
        if len(set(found)) < len(found):
            return "a cell stands in the log twice"
        if [cells.offset(cell) for cell in found] != list(self.offsets):
            return "an answer in the log is not what the key gives"
        return ""

    def test(
        self, answers: Tensor, *, draws: int = 1, cells: Cells | None = None, proof: Draw | None = None, name: str = ""
    ) -> DesignTest:
        """The p-value of a suspect by its labels ``[n]`` on `inputs`; matches are answers of what was `told`.

        Parameters:
            draws: how many keys the owner has in the log.
            cells, proof, name: the key, the draw that it is taken from and the name that it has there. Without them,
                or where they do not give this very log, the p-value is not called exact.
        """
        moved = torch.where(answers == self.labels, -1, (answers - self.labels - 1) % self.classes)
        design = Design(self.offsets, self.classes - 1, draws * (proof.tries if proof else 1))
        why = "nobody showed where the key comes from: there is no draw"
        if cells is not None and proof is not None:
            why = "the key is not the one that was drawn" if cells.key != key_of(proof, name) else self.shown_by(cells)
            if not why and proof.withheld:
                why = f"{' and '.join(proof.withheld)} withheld a nonce, so that p is doubled for each and not exact"
        return replace(design.test(moved.numpy()), exact=not why, why=why)

    def write(self, path: str | Path) -> None:
        """Write the log as safetensors, which holds no key."""
        counts = _Counts(classes=self.classes, asked=self.asked, altered=self.altered)
        tensors = {"inputs": self.inputs, "labels": self.labels, "told": self.told}
        write_tensors(path, tensors, {"dawn": counts.model_dump_json()})


def read_alterations(path: str | Path) -> Alterations:
    """The log that a file holds. Raises `InvalidFile` where it holds none."""
    tensors, metadata = read_tensors(path, max_bytes=MOST_BYTES)
    try:
        counts = _Counts.model_validate_json(metadata.get("dawn", ""))
    except ValidationError:
        raise InvalidFile(f"{path} is no log of a service; give one that Alterations.write wrote") from None
    found: list[Any] = [tensors.get(name) for name in ("inputs", "labels", "told")]
    if len(tensors) != 3 or any(each is None for each in found):
        raise InvalidFile(f"{path} is no log of a service: it has other tensors than inputs, labels and told")
    inputs, labels, told = found
    shapes = inputs.ndim == 4 and labels.shape == told.shape == inputs.shape[:1] and 1 <= len(inputs) <= MOST
    types = inputs.dtype == torch.float32 and labels.dtype == told.dtype == torch.int64
    if not shapes or not types or not bool(inputs.isfinite().all()):
        raise InvalidFile(f"{path} is no log of a service: inputs [n, c, h, w] and two labels for each are needed")
    both = torch.stack([labels, told])
    if int(both.min()) < 0 or int(both.max()) >= counts.classes or bool((labels == told).any()):
        raise InvalidFile(f"{path} holds labels that no service of {counts.classes} classes gives instead of its own")
    return Alterations(inputs, labels, told, counts.classes, counts.asked, counts.altered)
