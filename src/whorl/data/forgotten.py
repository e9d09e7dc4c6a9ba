"""A data set some of whose training pictures were withdrawn."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from whorl.data.base import Dataset, Source, nested
from whorl.data.shards import shard_of
from whorl.errors import UsageError
from whorl.expressions import Call

__all__ = ["Forgotten"]


@dataclass(frozen=True)
class Forgotten(Source):
    """``data`` after the share ``share`` of the part ``victim`` was withdrawn.

    The part ``victim`` is what is retained and ``queries`` what is to be forgotten; the other parts are as they were. A
    net trained on the part ``victim`` is an exact retraining; ``victim+queries`` joins both, told apart by ``origin``.
    ``seed`` draws the pictures, all from the first of ``shards`` shards: an ensemble of as many members, trained with
    the seed of the original, is then SISA's exact unlearning, since the other members are as they were.
    Raises `UsageError` where the share leaves nothing to forget or to retain.
    """

    data: str | Call
    share: float = 0.1
    seed: int = 0
    shards: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UsageError(f"the share to forget lies between 0 and 1, not at {self.share}")
        if self.shards < 1:
            raise UsageError(f"a data set has at least one shard, not {self.shards}")

    def _load(self, part: str) -> Dataset:
        source, name = nested(self.data), str(self._call("forget"))
        if part not in ("victim", "queries"):
            return replace(source.load(part), expression=name)
        learned = source.load("victim")
        count = round(self.share * len(learned))
        generator = torch.Generator().manual_seed(2_000_003 + self.seed)
        order = torch.randperm(len(learned), generator=generator)
        first = order[shard_of(learned.inputs(), self.shards)[order] == 0] if self.shards > 1 else order
        if not 0 < count < len(first):
            raise UsageError(f"a share of {self.share} of {len(learned)} pictures leaves none to forget or to retain")
        forgotten = torch.zeros(len(learned), dtype=torch.bool)
        forgotten[first[:count]] = True
        chosen = (forgotten if part == "queries" else ~forgotten).nonzero().flatten()
        return replace(learned.subset(chosen), expression=name)
