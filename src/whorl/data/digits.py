"""The 1,797 handwritten digits that come with scikit-learn: real pictures without a download.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from whorl.data.base import Dataset, Source, divide
from whorl.data.pictures import Side
from whorl.expressions import Call
from whorl.settings import Seed

__all__ = ["Digits"]


@dataclass(frozen=True)
class Digits(Source):
    """Digits 0 to 9, one grey channel, 8 x 8 pixels resized bilinearly to ``size`` x ``size``.

    ``seed`` chooses which pictures fall into which part (about 629, 449, 359, 180 and 180 of them).
    Raises `UsageError` if ``size`` is not in 4..512.
    """

    size: Side = 16
    seed: Seed = 0

    def _load(self, part: str) -> Dataset:
        from sklearn.datasets import load_digits

        digits: Any = load_digits()
        images = torch.from_numpy(digits.images).to(torch.float32).unsqueeze(1) / 16  # grey levels are 0..16
        labels = torch.from_numpy(digits.target).long()
        index = divide(labels, part, seed=self.seed)
        chosen = F.interpolate(images[index], size=(self.size, self.size), mode="bilinear", align_corners=False)
        classes = tuple(str(name) for name in digits.target_names)
        expression = str(Call("digits", kwargs=tuple(vars(self).items())))
        return Dataset(chosen.clamp(0, 1), labels[index], classes, expression)
