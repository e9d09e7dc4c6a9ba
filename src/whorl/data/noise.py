"""Uniform noise: inputs for those who hold no data, such as the codes that a generative model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from whorl.data.base import PARTS, Dataset, Source
from whorl.errors import UsageError
from whorl.expressions import Call
from whorl.types import Task

__all__ = ["Noise"]

MAX_VALUES = 2**30  # of one part in memory


@dataclass(frozen=True)
class Noise(Source):
    """``count`` pictures a part, uniform in [0, 1] and without labels, as in ``noise(shape=[1, 1, 8])``.

    ``shape`` is (channels, height, width). Raises `UsageError` for what is no shape, or for more than 2^30 values.
    """

    task: ClassVar[Task | None] = None

    shape: tuple[int, int, int] = (1, 1, 8)
    count: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        sides = self.shape
        if not isinstance(sides, tuple) or len(sides) != 3 or any(type(side) is not int or side < 1 for side in sides):
            raise UsageError(f"noise: shape is channels, height and width, as in [1, 1, 8], not {self.shape!r}")
        if type(self.count) is not int or self.count < 1 or self.count * torch.Size(sides).numel() > MAX_VALUES:
            raise UsageError(f"noise: count is a number of pictures that fit in memory, not {self.count!r}")

    def _load(self, part: str) -> Dataset:
        generator = torch.Generator().manual_seed(self.seed * len(PARTS) + list(PARTS).index(part))
        images = torch.rand(self.count, *self.shape, generator=generator)
        expression = str(Call("noise", kwargs=tuple(vars(self).items())))
        return Dataset(images, torch.empty(self.count, 0), (), expression)
