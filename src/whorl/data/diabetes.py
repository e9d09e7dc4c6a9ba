"""The 442 diabetes patients that come with scikit-learn: a regression on real records without a download.

Source: B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, "Least Angle Regression", Annals of Statistics 32(2), 2004.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from whorl.data.base import Dataset, Source, divide
from whorl.expressions import Call
from whorl.settings import Seed
from whorl.types import Task

__all__ = ["Diabetes"]

# Fixed, so that no part learns of another: about the mean and the spread of all 442 patients.
MEAN: Final = 152.0
SPREAD: Final = 77.0
STRATA: Final = 5


@dataclass(frozen=True)
class Diabetes(Source):
    """Ten features of a patient, each scaled from its range over all patients to [0, 1], as a picture 1 x 1 x 10.

    The one number to predict is the progression after a year, less 152 and in units of 77, so that its mean is about
    0 and its spread about 1. ``seed`` chooses which patients fall into which part (155, 110, 87, 45 and 45 of them),
    each with its share of every fifth of the progressions.
    """

    task: ClassVar[Task | None] = "regression"

    seed: Seed = 0

    def units(self) -> tuple[Tensor, Tensor]:
        """The least and the largest value of each feature."""
        values = torch.from_numpy(_records().data)
        return values.amin(0), values.amax(0)

    def _load(self, part: str) -> Dataset:
        records = _records()
        features = torch.from_numpy(records.data).float()
        low, high = features.amin(0), features.amax(0)
        progression = torch.from_numpy(records.target).float()
        strata = progression.argsort(stable=True).argsort() * STRATA // len(progression)
        index = divide(strata, part, seed=self.seed)
        expression = str(Call("diabetes", kwargs=tuple(vars(self).items())))
        images = ((features - low) / (high - low))[index, None, None]
        names = tuple(str(each) for each in records.feature_names)
        return Dataset(images, ((progression - MEAN) / SPREAD)[index, None], (), expression, features=names)


def _records() -> Any:
    from sklearn.datasets import load_diabetes

    return load_diabetes(scaled=False)
