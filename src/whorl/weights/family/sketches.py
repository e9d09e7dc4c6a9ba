"""What a net looks like in a few hundred numbers a tensor, to choose which of many nets are worth the exact tests.

A sketch accuses nobody and its likeness is no evidence: it ranks. Each matrix is sketched in four ways, each of which
keeps what some change of a net takes from the others. Names are in none of them.

- *in place*: random signs over the numbers where they stand (Achlioptas 2003). Survives tuning, low-rank updates,
  rounding and zeros; lost where units are reordered or taken out.
- *rows*, *columns*: the mean over all rows of cos(Omega w + phi), w scaled to length 1 (Rahimi and Recht 2007), and the
  same for columns. Survives units in another order, with other positive factors, some taken out or added, and a
  transposed matrix, as long as one side stands in its own order: pixels, classes, tokens.
- *angles*: random signs over the cosines between rows. Survives a rotation of what the rows stand in, as of the
  residual stream under an embedding.

Sketches are compared within groups of equal lengths, of whatever tensor, so that a part of a net is found inside of
another. How far two strangers of a group are alike is read off the folder itself where it holds enough of them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from whorl.checkpoints.checkpoint import Checkpoint, UnusableTensor
from whorl.weights.exchangeable import natural
from whorl.weights.pairing import spread

__all__ = ["Index", "Sketch", "sketch"]

SIZE: Final = 128
TENSORS: Final = 512  # of one net, evenly spread
STEP: Final = 1024  # rows in memory at a time
LONGEST: Final = 1024  # numbers of a row, or of a column, that its features are made of: the first
PLACES: Final = 64  # rows that are taken in place
ANGLES: Final = 128  # rows between which angles are taken: the first
WIDEST: Final = 1 << 18  # numbers taken in place
SHORTEST: Final = 4  # sides below which a matrix is a handful of vectors
FEW: Final = 8  # values of a mask or an index
SCALE: Final = 2.0  # standard deviation of Omega, for rows of length 1 (measured on perceptrons)
CLIP: Final = 3.0  # standard deviations: a few outlying axes are not the whole tensor
ENOUGH: Final = 32  # nets in a group by which one sees how alike strangers are
LEAST: Final = 3.0  # standard deviations that count
MOST: Final = 20.0  # and beyond which more of them do not
FLOOR: Final = 0.01  # of a standard deviation of cosines
TIE: Final = 1e-3  # what plain likeness counts beside that which stands out
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Sketch:
    """``values`` [rows, `SIZE`] of length 1 each (or 0), and for each row the group in which it may be compared."""

    groups: tuple[str, ...]
    values: Floats

    @classmethod
    def empty(cls) -> Sketch:
        """That of a net without matrices, which is like none."""
        return cls((), np.zeros((0, SIZE), np.float32))

    def document(self) -> dict[str, Any]:
        """As JSON, in half precision."""
        packed = base64.b64encode(self.values.astype("<f2").tobytes()).decode()
        return {"groups": list(self.groups), "values": packed}

    @classmethod
    def restored(cls, document: Mapping[str, Any]) -> Sketch:
        """A sketch that was kept as JSON. Raises `ValueError` for what is none."""
        groups, packed = document["groups"], document["values"]
        if not isinstance(groups, list) or not isinstance(packed, str) or len(groups) > 4 * TENSORS:
            raise ValueError("no sketch")
        flat = np.frombuffer(base64.b64decode(packed, validate=True), dtype="<f2").astype(np.float32)
        values = flat.reshape(len(groups), SIZE)
        if not np.isfinite(values).all() or np.abs(values).max(initial=0) > 1 + FLOOR:
            raise ValueError("no sketch")
        return cls(tuple(map(str, groups)), values)


def sketch(net: Checkpoint) -> Sketch:
    """The sketch of a net. Every matrix is read once, `STEP` rows at a time; one that holds NaN is left out."""
    wide = [name for name, entry in net.entries.items() if _is_matrix(entry.shape)]
    wide.sort(key=natural)
    groups: list[str] = []
    values: list[Tensor] = []
    for name in [wide[place] for place in spread(len(wide), TENSORS)]:
        try:
            found = list(_sketched(net, name))
        except UnusableTensor:
            continue
        groups += [group for group, _ in found]
        values += [value for _, value in found]
    held = torch.stack(values) if values else torch.zeros(0, SIZE)
    return Sketch(tuple(groups), normalize(held, dim=1).half().float().numpy())


def _is_matrix(shape: tuple[int, ...]) -> bool:
    return len(shape) > 1 and shape[0] >= SHORTEST and prod(shape[1:]) >= SHORTEST


def _sketched(net: Checkpoint, name: str) -> Iterator[tuple[str, Tensor]]:
    """Groups and values of one tensor, seen as [rows, columns, places of a kernel]."""
    height, width, *kernel = net.entries[name].shape
    places = prod(kernel)
    chosen = net.read(name, spread(height, min(PLACES, max(1, WIDEST // (width * places))))).flatten(1)
    if len(chosen.unique()) <= FEW:
        return
    rows, first = torch.zeros(SIZE), min(height, LONGEST)
    upper: list[Tensor] = []
    for start in range(0, height, STEP):
        block = net.read(name, slice(start, start + STEP)).reshape(-1, width, places)
        rows += _features(block.flatten(1)).sum(0)
        if start < first:
            upper.append(block[: first - start])
    top = torch.cat(upper)
    columns = _features(top.transpose(0, 1).reshape(width, -1)).mean(0)
    yield f"in place {height} {width} {places}", _signed(chosen / chosen.square().mean().sqrt())
    yield f"units {width} {places}", rows / height - _stranger(min(width * places, LONGEST))
    yield f"units {height} {places}", columns - _stranger(min(len(top) * places, LONGEST))
    near = normalize(top[:ANGLES].flatten(1), dim=1)
    angles = (near @ near.T)[tuple(torch.triu_indices(len(near), len(near), 1))]
    yield f"angles {len(near)} {min(places, 2)}", _signed(angles * near.shape[1] ** 0.5)


def _features(rows: Tensor) -> Tensor:
    """cos(Omega w + phi) of each row: [rows, `SIZE`]."""
    rows = normalize(rows[:, :LONGEST], dim=1)
    omega, phi = _drawn(rows.shape[1])
    return torch.cos(rows @ omega + phi)


def _stranger(length: int) -> Tensor:
    """The mean of the features over rows that point in all directions alike, which every net has."""
    return _drawn(length)[1].cos() * float(np.exp(-(SCALE**2) / 2))


@lru_cache(maxsize=64)
def _drawn(length: int) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(length)
    omega = SCALE * torch.randn(length, SIZE, generator=chance)
    return omega, 2 * torch.pi * torch.rand(SIZE, generator=chance)


def _signed(values: Tensor) -> Tensor:
    """Numbers with random signs, summed into `SIZE` sums."""
    flat = values.clamp(-CLIP, CLIP).flatten()[:WIDEST]
    signed = flat * _signs(len(flat))
    return torch.nn.functional.pad(signed, (0, -len(flat) % SIZE)).view(-1, SIZE).sum(0)


@lru_cache(maxsize=64)
def _signs(length: int) -> Tensor:
    chance = torch.Generator().manual_seed(length)
    return torch.randint(2, (length,), generator=chance).float() * 2 - 1


class Index:
    """Sketches of many nets, by group, and how much each net stands out for a given one.

    A scan of all: a product of matrices for each group, linear in the number of nets for one sketch.
    """

    def __init__(self, sketches: Sequence[Sketch]) -> None:
        self.count = len(sketches)
        rows: dict[str, list[tuple[int, int]]] = {}
        for net, each in enumerate(sketches):
            for row, group in enumerate(each.groups):
                rows.setdefault(group, []).append((net, row))
        self._groups = {group: _Group.of(sketches, held) for group, held in rows.items()}

    def scores(self, one: Sketch, apart: int | None = None) -> NDArray[np.float64]:
        """How much each net stands out for ``one``, [nets], 0 or more; ``apart`` is its own place, if it has one.

        Of each tensor the most alike one of every net is taken, in standard deviations of strangers.
        """
        told = np.zeros(self.count)
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(one.groups):
            rows.setdefault(name, []).append(row)
        for name, held in rows.items():
            group = self._groups.get(name)
            if group is not None:
                group.add(told, one.values[held], apart)
        if apart is not None:
            told[apart] = 0.0
        return told

    def nearest(self, one: Sketch, count: int, apart: int | None = None) -> list[int]:
        """The places of the nets that stand out most, the first first; those that share nothing with it are none."""
        told = self.scores(one, apart)
        order = np.argsort(-told, kind="stable")[:count]
        return [int(place) for place in order if told[place] > 0]


@dataclass(frozen=True)
class _Group:
    """Rows of equal length, in the order of their nets; ``nets`` are these, ``starts`` where each one's rows begin."""

    values: Floats
    nets: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, sketches: Sequence[Sketch], held: Sequence[tuple[int, int]]) -> _Group:
        values = np.stack([sketches[net].values[row] for net, row in held])
        nets, starts = np.unique(np.array([net for net, _ in held]), return_index=True)
        return cls(values, nets, starts)

    def add(self, told: NDArray[np.float64], rows: Floats, apart: int | None) -> None:
        best = np.maximum.reduceat(rows @ self.values.T, self.starts, axis=1)
        others = self.nets != (-1 if apart is None else apart)
        strangers, level, spread_ = best[:, others], 0.0, SIZE**-0.5
        if strangers.shape[1] >= ENOUGH:
            level = np.median(strangers, axis=1, keepdims=True)
            spread_ = np.maximum(FLOOR, 1.4826 * np.median(np.abs(strangers - level), axis=1, keepdims=True))
        out = np.clip((best - level) / spread_ - LEAST, 0, MOST) + TIE * np.maximum(best, 0)
        told[self.nets] += out.sum(0)
