"""Spectral signatures: pictures that lie far along the direction in which the features of their class spread most.

Paper: Tran, Li, Madry, *Spectral Signatures in Backdoor Attacks*, NeurIPS 2018, arXiv 1811.00636, algorithm 1. For
each class the features that the head reads are centred; a picture's number is the square of its part along the first
right singular vector, and the pictures with the largest 1.5 eps of them are removed, where eps bounds the share of the
class that may be poisoned. So the rule names pictures of every class, and of clean sets too.

Where about half of a class is poisoned, both halves lie equally far from its mean and the rule can't tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import torch
from annotated_types import Gt, Le

from whorl.data.base import Dataset
from whorl.inspection.features import Cut
from whorl.inspection.sieve import Found, Sieve
from whorl.oracles.torch import TorchOracle
from whorl.types import Access

__all__ = ["Spectral"]

MARGIN: Final = 1.5  # of the paper: how many are removed for each that may be poisoned


@dataclass(frozen=True, kw_only=True)
class Spectral(Sieve):
    """Squared part along the first singular vector; a class's number is the share of its variance along it.

    Parameters:
        rate_of_class: eps, the largest share of a class that may be poisoned, in (0, .5].
    """

    name: ClassVar[str] = "spectral"
    paper: ClassVar[str] = "Tran, Li, Madry, NeurIPS 2018, arXiv 1811.00636"
    idea: ClassVar[str] = "Pictures that lie far along the direction in which the features of their class spread most."
    blind: ClassVar[str] = "triggers on about half of a class or more, and those whose pictures the head reads alike"
    needs: ClassVar[Access] = Access.WEIGHTS
    clean: ClassVar[int] = 0
    always: ClassVar[bool] = True

    rate_of_class: Annotated[float, Gt(0), Le(0.5)] = 0.1

    def find(self, net: TorchOracle, data: Dataset, clean: Dataset | None, *, generator: torch.Generator) -> Found:
        """Numbers of pictures and of classes."""
        del clean, generator
        features = Cut(net, self.name).seen(data.inputs()).cpu()
        values = torch.zeros(len(data), dtype=torch.float64)
        named = torch.zeros(len(data), dtype=torch.bool)
        spread = torch.zeros(net.classes, dtype=torch.float64)
        for label in range(net.classes):
            places = (data.labels == label).nonzero().flatten()
            if len(places) < 2:
                continue
            mine = features[places].double()
            mine -= mine.mean(0)
            wide = mine.shape[1] > len(mine)  # the smaller of both squares has the same spectrum
            variances, directions = torch.linalg.eigh(mine @ mine.mT if wide else mine.mT @ mine)
            first = directions[:, -1]
            values[places] = (variances[-1].clamp_min(0).sqrt() * first if wide else mine @ first).square()
            spread[label] = variances[-1] / variances.clamp_min(0).sum().clamp_min(1e-12)
            count = min(round(MARGIN * self.rate_of_class * len(places)), len(places))
            named[places[values[places].argsort(descending=True)[:count]]] = True
        return Found(values, named, spread)
