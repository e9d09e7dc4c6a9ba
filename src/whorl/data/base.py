"""Pictures with labels, and the disjoint parts that a study of them needs.

Whoever trains the victim, steals it, calibrates the test and measures accuracy must not share pictures, or the
error rates mean nothing. So every source divides itself into the same five parts, and a recipe names its part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, final

import torch
from torch import Tensor

from whorl.errors import UsageError

__all__ = ["PARTS", "Dataset", "Source", "divide"]

# The share of each part where one finite set has to be divided.
# victim: trains the victim, and the independent models that are hardest to tell from it. attacker: the thief's.
# calibration: the owner's, for known copies and for independent models with pictures of their own.
# queries: the owner's held-out pictures, on which nobody may train. test: accuracy and agreement.
PARTS: Final[Mapping[str, float]] = {
    "victim": 0.35,
    "attacker": 0.25,
    "calibration": 0.2,
    "queries": 0.1,
    "test": 0.1,
}


@dataclass(frozen=True)
class Dataset:
    """Pictures and labels in memory.

    Shape:
        images: ``[n, c, h, w]``, float32 in [0, 1] or uint8 in 0..255 (a quarter of the memory).
        labels: ``[n]`` int64 in 0..classes-1.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    expression: str = ""

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise UsageError(
                f"a dataset holds images [n, c, h, w] and labels [n]; "
                f"these are {tuple(self.images.shape)} and {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one picture."""
        channels, height, width = self.images.shape[1:]
        return int(channels), int(height), int(width)

    def inputs(self, index: Tensor | slice | None = None) -> Tensor:
        """The chosen pictures (all by default) as float32 in [0, 1]."""
        chosen = self.images if index is None else self.images[index]
        return chosen.to(torch.float32) / 255 if chosen.dtype == torch.uint8 else chosen

    def subset(self, index: Tensor | slice) -> Dataset:
        """The chosen pictures and labels as a data set of their own."""
        return Dataset(self.images[index], self.labels[index], self.classes, self.expression)


class Source(ABC):
    """Where pictures come from. Subclasses are frozen dataclasses whose fields an expression may give.

    An author writes ``_load(part)``; the base class checks the name of the part and keeps the last few in memory.
    """

    @abstractmethod
    def _load(self, part: str) -> Dataset:
        """The pictures of one part; parts share no picture."""

    @final
    def load(self, part: str) -> Dataset:
        """The pictures of ``part``, one of `PARTS`."""
        if part not in PARTS:
            raise UsageError(f"no such part of a data set: {part!r}. The parts are {', '.join(PARTS)}.")
        return _loaded(self, part)


@lru_cache(maxsize=16)
def _loaded(source: Source, part: str) -> Dataset:
    dataset = source._load(part)
    if not len(dataset):
        raise UsageError(f"the part {part!r} of {source} holds no picture; give more pictures")
    return dataset


def divide(labels: Tensor, part: str, *, seed: int, shares: Mapping[str, float] = PARTS) -> Tensor:
    """Indices of ``part`` when one labelled set is divided by ``shares``, class by class.

    The same seed gives the same disjoint parts, whichever part is asked for.

    Shape:
        labels: ``[n]``. Returns ``[m]`` int64, sorted.
    """
    generator = torch.Generator().manual_seed(seed)
    names = list(shares)
    edges = torch.tensor([0.0, *shares.values()], dtype=torch.float64).cumsum(0) / sum(shares.values())
    chosen: list[Tensor] = []
    for label in labels.unique(sorted=True):
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        first, last = (edges[names.index(part) : names.index(part) + 2] * len(members)).round().long().tolist()
        chosen.append(members[first:last])
    return torch.cat(chosen).sort().values
