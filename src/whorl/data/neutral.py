"""Neutral control inputs of an owner's data: what shows whether victim, suspect and null are models of one kind."""

from __future__ import annotations

import torch

from whorl.data import SOURCES
from whorl.data.base import Dataset, join

__all__ = ["neutral"]

HELD_OUT, OWN = 60, 120  # control inputs


def neutral(data: Dataset | str | None, seed: int) -> Dataset | None:
    """Control pictures: of a source held-out ones and twice as many of the victim's own, of a data set any.

    A null of models that learned from fewer of the victim's pictures, or for less long, shows on those first.
    """
    generator = torch.Generator().manual_seed(seed)

    def some(pictures: Dataset, count: int) -> Dataset:
        return pictures.subset(torch.randperm(len(pictures), generator=generator)[:count])

    if data is None:
        return None
    if isinstance(data, Dataset):
        return some(data, HELD_OUT + OWN)
    source = SOURCES.make(data)
    return join(some(source.load("test"), HELD_OUT), some(source.load("victim"), OWN))
