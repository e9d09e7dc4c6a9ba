"""A data set some of whose training pictures were withdrawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Annotated

import torch
from annotated_types import Gt, Lt

from whorl.data.base import Dataset, Source, nested
from whorl.data.shards import shard_of
from whorl.errors import UsageError
from whorl.settings import Count, Seed, SourceName

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

    data: SourceName
    share: Annotated[float | Fraction, Gt(0), Lt(1)] = 0.1
    seed: Seed = 0
    shards: Count = 1

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
