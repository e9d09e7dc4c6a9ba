"""Honest clients of a service, whom a guard must not suspect, and how strange their questions are.

Five kinds by turns: natural pictures; moved and noisy ones; pictures of one class; near duplicates, as frames of a film
are; and an owner who verifies with whorl, whose questions look made because they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.schemes import SCHEMES

__all__ = ["BLOCK", "KINDS", "LEAST", "Client", "clients", "strangeness"]

BLOCK: Final = 25  # questions that are judged together
LEAST: Final = 1e-6  # a distance of 0, whose logarithm is none
NOISE: Final = 0.02
VERIFIERS: Final = ("akh", "igsm", "ipguard(learning_rate=0.01)", "fgsm")
REFERENCES: Final = 2000


@dataclass(frozen=True)
class Client:
    """One client: which kind of questions, and the questions ``[n, c, h, w]`` in order."""

    kind: str
    inputs: Tensor


def clients(victim: Oracle, data: Dataset, count: int, length: int, seed: int) -> list[Client]:
    """``count`` clients by turns of `KINDS`, who ask ``length`` questions each, or fewer where a scheme makes fewer.

    Parameters:
        victim: grants gradients, for those who verify.
        data: pictures that neither the service nor a thief learned from.

    Raises:
        UsageError: no picture, or fewer than one client or question.
    """
    if count < 1 or length < 1 or not len(data):
        raise UsageError(f"clients ask at least one question about some pictures, not {count} clients {length}")
    found: list[Client] = []
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        generator = torch.Generator().manual_seed(seed * 10_007 + number)
        inputs = KINDS[kind](victim, data, length, generator)
        found.append(Client(kind, inputs[:length]))
    return found


def strangeness(inputs: Tensor, references: Tensor) -> list[float]:
    """For each whole block of 25 questions the mean logarithm of the distance to the nearest reference picture.

    A function of the block alone, so that blocks of benign streams are exchangeable wherever their questions are.

    Shape:
        inputs: ``[n, c, h, w]``; references: ``[m, c, h, w]``, of which the first 2,000 count.
    """
    whole = inputs[: len(inputs) // BLOCK * BLOCK].flatten(1)
    if not len(whole):
        return []
    near = torch.cat([torch.cdist(part, references[:REFERENCES].flatten(1)).amin(1) for part in whole.split(500)])
    return near.clamp_min(LEAST).log().view(-1, BLOCK).mean(1).tolist()


def _some(data: Dataset, length: int, generator: torch.Generator) -> Tensor:
    """Pictures in random order, begun anew where they end."""
    rounds = -(-length // len(data))
    order = torch.cat([torch.randperm(len(data), generator=generator) for _ in range(rounds)])
    return data.inputs(order[:length])


def _natural(victim: Oracle, data: Dataset, length: int, generator: torch.Generator) -> Tensor:
    del victim
    return _some(data, length, generator)


def _augmented(victim: Oracle, data: Dataset, length: int, generator: torch.Generator) -> Tensor:
    del victim
    pictures = _some(data, length, generator)
    moves = torch.randint(-1, 2, (length, 2), generator=generator).tolist()
    moved = torch.stack([each.roll((down, right), (1, 2)) for each, (down, right) in zip(pictures, moves, strict=True)])
    return _noisy(moved, generator)


def _one_class(victim: Oracle, data: Dataset, length: int, generator: torch.Generator) -> Tensor:
    present = data.labels.unique()
    chosen = present[torch.randint(len(present), (), generator=generator)]
    return _augmented(victim, data.subset((data.labels == chosen).nonzero().flatten()), length, generator)


def _near_duplicates(victim: Oracle, data: Dataset, length: int, generator: torch.Generator) -> Tensor:
    del victim
    scenes = _some(data, -(-length // 10), generator).repeat_interleave(10, 0)[:length]
    return _noisy(scenes, generator)


def _verification(victim: Oracle, data: Dataset, length: int, generator: torch.Generator) -> Tensor:
    which = int(torch.randint(len(VERIFIERS), (), generator=generator))
    seed = int(torch.randint(2**31, (), generator=generator))
    budget = min(length, len(data) // 2)
    fingerprint = SCHEMES.make(VERIFIERS[which]).extract(victim, data, budget=max(1, budget), seed=seed)
    return fingerprint.queries.inputs


def _noisy(pictures: Tensor, generator: torch.Generator) -> Tensor:
    return (pictures + NOISE * torch.randn(pictures.shape, generator=generator)).clamp(0, 1)


KINDS: Final[dict[str, Callable[[Oracle, Dataset, int, torch.Generator], Tensor]]] = {
    "natural": _natural,
    "augmented": _augmented,
    "one class": _one_class,
    "near duplicates": _near_duplicates,
    "verification by whorl": _verification,
}
"""By name: a service, pictures, how many questions and a generator to the questions ``[n, c, h, w]``."""
