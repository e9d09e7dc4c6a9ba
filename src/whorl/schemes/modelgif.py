"""ModelGiF: how alike the gradient fields of two models are along paths from black to reference pictures.

Paper: J. Song, Z. Xu, S. Wu, G. Chen, M. Song, *ModelGiF: Gradient Fields for Model Functional Distance*, ICCV 2023,
arXiv 2309.11013.

Queries: reference pictures. Representation: cumulative integrated gradients of each model's own predicted logit, so
that numbers of classes may differ (`GradientFields`). Similarity: 1 - d / 2, where d is the paper's mean of 1 - cosine.
Access: gradients of both models.

Changed from the paper: reference pictures are random or uncertain ones of the owner's. The authors' code takes the test
pictures whose fields lie farthest from those irrelevant models that it then evaluates on, which leaks the answer;
`modelgif-selected` selects like that from a pool that is never under test. The similarity is halved into [0, 1].

Measured on the small zoo of the tests: tuned and pruned copies at AUC 1 from 8 pictures on. Extracted nets are as far
from the victim as independent ones (AUC .1 and .5 with 64 pictures; the paper has 1 with 256). Selecting 16 pictures by
the test negatives lowers their similarities and raises that AUC by about .1 over selecting by others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.oracles.pool import Pool
from whorl.queries.base import PooledSampler, Sampler, draw, gradient_of
from whorl.queries.descent import at_once, in_blocks
from whorl.representations.fields import FieldAngle, GradientFields, alignment
from whorl.schemes.base import Scheme
from whorl.settings import Count
from whorl.types import Access, Queries, grants

__all__ = ["ModelGiF", "ModelGiFSelected"]


@dataclass(frozen=True, kw_only=True)
class _Fields(GradientFields, FieldAngle, Scheme):
    """What both have in common: all but the choice of reference pictures."""

    paper: ClassVar[str] = "Song et al., ICCV 2023, arXiv 2309.11013"
    idea: ClassVar[str] = "The direction of input gradients along paths to reference pictures."
    blind: ClassVar[str] = "extraction, which leaves other gradients for the same answers"
    needs_victim: ClassVar[Access] = Access.GRADIENTS

    candidates: Count = 4

    def _choose(self, data: Dataset, budget: int, generator: torch.Generator) -> Tensor:
        """``candidates`` random pictures for each query, as far as there are so many."""
        count = max(budget, min(len(data), self.candidates * budget))
        return data.inputs(draw(data, count, generator))


@dataclass(frozen=True, kw_only=True)
class ModelGiF(_Fields, Sampler):
    """Gradient fields at pictures chosen without any other model.

    Parameters:
        reference: random pictures, or those of ``candidates`` times as many that the victim is least certain of.
    """

    name: ClassVar[str] = "modelgif"

    reference: Literal["random", "uncertain"] = "random"

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """The reference pictures."""
        if self.reference == "random":
            return Queries(data.inputs(draw(data, budget, generator)))
        pictures = self._choose(data, budget, generator)
        certainty = victim.probabilities(pictures).square().sum(1)
        return Queries(pictures[certainty.argsort(stable=True)[:budget]])


@dataclass(frozen=True, kw_only=True)
class ModelGiFSelected(_Fields, PooledSampler):
    """Gradient fields at the pictures where the victim's differ most from those of the pool's independent models.

    The paper's choice; where the pool holds the models that the result is then quoted for, that result leaks.
    """

    name: ClassVar[str] = "modelgif-selected"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/similarity": Layout("n", low=-1.001, high=1.001),
    }

    def sample_with(
        self, victim: Oracle, data: Dataset, pool: Pool, *, budget: int, generator: torch.Generator
    ) -> Queries:
        """The pictures of largest mean distance from the pool's models that grant gradients."""
        known = [model for model in pool.independent if grants(self.needs_suspect) <= model.grants]
        if not known:
            raise UsageError(f"{self.name} selects pictures by independent models that grant GRADIENTS; give some")
        pictures = self._choose(data, budget, generator)

        def compare(place: slice) -> tuple[Tensor]:
            part = Queries(pictures[place])
            own = self.represent(victim, part).values
            each = (alignment(own, self.represent(model, part).values) for model in known)
            return (sum(each, torch.zeros(len(part))) / len(known),)

        (alike,) = in_blocks(compare, len(pictures), max(1, at_once(gradient_of(victim), pictures) // self.nodes))
        chosen = alike.argsort(stable=True)[:budget]
        return Queries(pictures[chosen], {"similarity": alike[chosen]})
