"""Uniform noise: inputs for those who hold no data, such as the codes that a generative model takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from whorl.data.base import PARTS, Dataset, Source
from whorl.errors import UsageError
from whorl.expressions import Call
from whorl.settings import Count, Seed
from whorl.types import Task

__all__ = ["Noise"]

MAX_VALUES = 2**30  # of one part in memory


@dataclass(frozen=True)
class Noise(Source):
    """``count`` pictures a part, uniform in [0, 1] and without labels, as in ``noise(shape=[1, 1, 8])``.

    ``shape`` is (channels, height, width). Raises `UsageError` for what is no shape, or for more than 2^30 values.
    """

    task: ClassVar[Task | None] = None

    shape: tuple[Count, Count, Count] = (1, 1, 8)
    count: Count = 1000
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count * math.prod(self.shape) > MAX_VALUES:
            raise UsageError(f"noise: count is a number of pictures that fit in memory, not {self.count!r}")

    def _load(self, part: str) -> Dataset:
        generator = torch.Generator().manual_seed(self.seed * len(PARTS) + list(PARTS).index(part))
        images = torch.rand(self.count, *self.shape, generator=generator)
        expression = str(Call("noise", kwargs=tuple(vars(self).items())))
        return Dataset(images, torch.empty(self.count, 0), (), expression)
