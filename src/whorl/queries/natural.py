"""Pictures as they are: the baseline that every optimised query must beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from whorl.data.base import Dataset
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.base import Sampler, draw
from whorl.types import Access, Queries

__all__ = ["Natural"]


@dataclass(frozen=True, kw_only=True)
class Natural(Sampler):
    """Random pictures of the owner's held-out data, or uniform noise."""

    needs_victim: ClassVar[Access] = Access.LABELS
    natural: ClassVar[bool] = True
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/truth": Layout("n", "int64", 0, optional=True),
    }

    any_task: ClassVar[bool] = True
    start: Literal["natural", "noise"] = "natural"

    @property
    def drawn(self) -> bool:
        """They are, from the data or from noise."""
        return True

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """The pictures with their true labels where they have classes, or noise."""
        if self.start == "noise":
            return Queries(torch.rand(budget, *victim.input_shape, generator=generator))
        index = draw(data, budget, generator)
        labels = data.labels[index]
        return Queries(data.inputs(index), {} if labels.is_floating_point() else {"truth": labels})
