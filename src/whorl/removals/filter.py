"""Served copies that treat the questions: filters, and votes over noisy copies.

Source: the input transformations among the removal attacks of Lukas et al., *SoK: How Robust is Image Classification
Deep Neural Network Watermarking?*, IEEE S&P 2022; randomised smoothing after Cohen et al., ICML 2019. The weights stay
as they were stolen; what is left is an oracle around the victim that keeps its digest. See `whorl.oracles.filtered`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.chance import seed_from
from whorl.oracles.filtered import Filtered, Kind, Smoothed
from whorl.removals.base import Removal
from whorl.types import Access

__all__ = ["FilterInputs", "Smooth"]


@dataclass(frozen=True)
class FilterInputs(Removal):
    """A filter of ``kind`` and ``strength`` before the model.

    Kinds, with the strengths that None stands for: flip; blur (Gaussian, sigma 0.5 pixels); mean and median (3 x 3
    pixels); noise (standard deviation 0.01); levels (16, a depth of 4 bits); jpeg (quality 95). Access left: whatever
    answers the victim gives, up to logits; no gradients, features or weights.
    """

    family: ClassVar[str] = "input"
    needs: ClassVar[Access] = Access.LABELS

    kind: Kind = "blur"
    strength: float | None = None

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Oracle:
        """The victim behind the filter."""
        del data
        _refuse_codes(victim)
        return Filtered(victim, self.kind, self.strength, seed=seed_from(generator))


@dataclass(frozen=True)
class Smooth(Removal):
    """Randomised smoothing: the most frequent class over ``votes`` copies under noise of ``sigma``.

    Cohen et al. take 100 votes to choose a class. Access left: labels, or the shares of the votes where the victim
    grants probabilities. Each question costs ``votes`` questions to the stolen model, which is the thief's own.
    """

    family: ClassVar[str] = "input"
    needs: ClassVar[Access] = Access.LABELS

    sigma: Annotated[float, Gt(0), Le(10)] = 0.12
    votes: Annotated[int, Ge(1), Le(100_000)] = 32

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Oracle:
        """The voting victim."""
        del data
        if victim.task != "classification":
            raise UsageError(f"smoothing votes for classes; {victim.name} does {victim.task}")
        return Smoothed(victim, self.sigma, self.votes, seed=seed_from(generator))


def _refuse_codes(victim: Oracle) -> None:
    if victim.task == "generation":
        raise UsageError(f"filters treat the pictures a model looks at; {victim.name} makes them")
