"""DAWN: a service that marks whoever copies its answers.

Paper and null are those of `whorl.oracles.dawn`. In a recipe it stands between the victim and its thief, as in
``train(...) -> answer_marked -> extract(...)``. The key is drawn from the recipe's seed, so that it proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.dawn import Cells, Dawn
from whorl.removals.base import Removal
from whorl.settings import Probability
from whorl.types import Access

__all__ = ["AnswerMarked"]


@dataclass(frozen=True)
class AnswerMarked(Removal):
    """A ``share`` of inputs gets another label, by a secret key. The class stays in all other answers.

    Access left: labels, or probabilities where the victim grants them.
    """

    family: ClassVar[str] = "defend"
    needs: ClassVar[Access] = Access.LABELS

    share: Probability = 0.005

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Dawn:
        """The victim as a service that keeps a log of what it altered."""
        del data
        if victim.task != "classification":
            raise UsageError(f"other labels are those of a classifier; {victim.name} does {victim.task}")
        key = bytes(torch.randint(256, (32,), generator=generator).tolist())
        return Dawn(victim, Cells(key, victim.classes, self.share))
