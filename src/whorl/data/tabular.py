"""Rows of named features that come with scikit-learn: breast cancer and wine, as classification without a download.

Sources: W. H. Wolberg, O. L. Mangasarian, W. N. Street, *Breast Cancer Wisconsin (Diagnostic)*, UCI repository, 1995;
S. Aeberhard, M. Forina, *Wine*, UCI repository, 1992.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from whorl.data.base import Dataset, Source, divide
from whorl.expressions import Call
from whorl.settings import Seed

__all__ = ["BreastCancer", "Wine"]


@dataclass(frozen=True)
class BreastCancer(Source):
    """569 tumours, 30 features of their cell nuclei, benign or malignant; each row a picture 1 x 1 x 30 in [0, 1]."""

    seed: Seed = 0

    def units(self) -> tuple[Tensor, Tensor]:
        """The least and the largest value of each feature."""
        return _range(_breast_cancer())

    def _load(self, part: str) -> Dataset:
        return _rows("breast_cancer", _breast_cancer(), part, self.seed)


@dataclass(frozen=True)
class Wine(Source):
    """178 Italian wines of three cultivars, 13 chemical features; each row a picture 1 x 1 x 13 in [0, 1]."""

    seed: Seed = 0

    def units(self) -> tuple[Tensor, Tensor]:
        """The least and the largest value of each feature."""
        return _range(_wine())

    def _load(self, part: str) -> Dataset:
        return _rows("wine", _wine(), part, self.seed)


def _breast_cancer() -> Any:
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer()


def _wine() -> Any:
    from sklearn.datasets import load_wine

    return load_wine()


def _range(records: Any) -> tuple[Tensor, Tensor]:
    values = torch.from_numpy(records.data)
    return values.amin(0), values.amax(0)


def _rows(name: str, records: Any, part: str, seed: int) -> Dataset:
    """One part; features are scaled from their range over all rows to [0, 1]."""
    values = torch.from_numpy(records.data).float()
    low, high = values.amin(0), values.amax(0)
    labels = torch.from_numpy(records.target).long()
    index = divide(labels, part, seed=seed)
    images = ((values - low) / (high - low))[index, None, None]
    names = tuple(str(each) for each in records.feature_names)
    classes = tuple(str(each) for each in records.target_names)
    return Dataset(images, labels[index], classes, str(Call(name, kwargs=(("seed", seed),))), features=names)
