"""What a sampler of queries promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.errors import AccessRefused, UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.oracles.pool import Pool
from whorl.settings import Checked
from whorl.types import Access, Asked, Queries

__all__ = ["PooledSampler", "Sampler", "Target", "choose_target", "draw", "gradient_of"]

Target = Literal["least-likely", "random"]


class Sampler(Checked, ABC):
    """Makes the inputs that a fingerprint asks about. Subclasses are frozen dataclasses of their settings."""

    needs_victim: ClassVar[Access]
    """Access to the victim at extraction."""
    part: ClassVar[str] = "queries"
    """The part of a data set that the paper takes its seeds from, or several joined by a plus."""
    needs_data: ClassVar[bool] = True
    """Whether it needs pictures; without, ``data`` may be empty."""
    needs_pool: ClassVar[bool] = False
    """Whether it learns from shadow models (`PooledSampler`)."""
    tensors: ClassVar[Mapping[str, Layout]] = MappingProxyType({"inputs": Layout("n *input", "input")})
    """What a fingerprint holds of its queries: ``inputs``, ``companions/<name>`` and ``shared/<name>``."""
    facts: ClassVar[Mapping[str, type]] = MappingProxyType({})
    """The notes that `represent` reads, with their types."""

    natural: ClassVar[bool] = False
    """Whether it asks pictures as they are, or mixes of such, and none that were moved against the victim."""
    any_task: ClassVar[bool] = False
    """Whether it needs no classes, so that with answers of any task it makes a scheme for all of them."""
    asks: ClassVar[Asked] = "single pictures"
    """What one query asks."""

    @property
    def drawn(self) -> bool:
        """Whether queries are drawn from the data whatever the victim answers, so that they bound what others do."""
        return False

    @abstractmethod
    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """``budget`` queries; ``data`` is the owner's, labelled."""


class PooledSampler(Sampler):
    """A sampler that learns from shadow models. An author writes ``sample_with``."""

    needs_pool: ClassVar[bool] = True

    @abstractmethod
    def sample_with(
        self, victim: Oracle, data: Dataset, pool: Pool, *, budget: int, generator: torch.Generator
    ) -> Queries:
        """``budget`` queries, and in ``shared`` whatever else was learned; ``pool`` is never under test."""

    @final
    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Refuse: `UsageError`."""
        del victim, data, budget, generator
        raise UsageError(
            f"{type(self).__name__} learns from shadow models: give pool=Pool(...), or on the command line "
            "--shadow RECIPE and --shadow-removal REMOVAL"
        )


def draw(data: Dataset, count: int, generator: torch.Generator) -> Tensor:
    """Positions ``[count]`` of different random pictures. Raises `UsageError` when there are too few."""
    if len(data) < count:
        raise UsageError(f"{count} seed pictures are needed and the data hold {len(data)}; give more or ask for fewer")
    return torch.randperm(len(data), generator=generator)[:count]


def gradient_of(victim: Oracle) -> Callable[[Tensor], Tensor]:
    """Inputs to logits, differentiable in the inputs only."""
    differentiable = getattr(victim, "differentiable", None)
    if differentiable is None:
        raise AccessRefused(f"this sampler follows gradients; {victim.name} grants {victim.access.name}")
    return differentiable()


def choose_target(rule: Target, logits: Tensor, generator: torch.Generator) -> Tensor:
    """A class other than the predicted one for each row of ``logits`` ``[n, classes]``, as ``[n]``."""
    if rule == "least-likely":
        # Not the argmin alone: where all logits are equal that is the predicted class.
        return logits.scatter(1, logits.argmax(1, keepdim=True), torch.inf).argmin(1)
    step = torch.randint(1, logits.shape[1], (len(logits),), generator=generator)
    return (logits.argmax(1) + step).remainder(logits.shape[1])
