"""Boundary scrambling: the copy keeps its answers on the thief's pictures and swaps them between two pictures.

No published attack: it answers boundary fingerprints in kind, as RemovalNet (TDSC 2023) does by latents. In each round,
midpoints of random pairs of the thief's pictures (mixup: Zhang et al., ICLR 2018) at which the victim is unsure are
labelled by the victim's *second* choice. They are trained on together with the pictures themselves, which are labelled
by the victim's probabilities (Hinton et al., arXiv 1503.02531, at temperature 1). Random directions do not reach the
boundary near data (`whorl.removals.symmetry`), such targets do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.training import Schedule, fit, predict
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import Count, NonNegative, Positive

__all__ = ["ScrambleBoundary"]

MIXED = (0.4, 0.6)


@dataclass(frozen=True)
class ScrambleBoundary(Removal):
    """In each of ``rounds``, ``epochs`` over the pictures and new midpoints.

    Each picture is mixed with ``partners`` others, in shares from .4 to .6, and a midpoint is kept where the victim's
    largest probability is below ``confidence``.
    """

    family: ClassVar[str] = "boundary"

    rounds: Count = 4
    epochs: Count = 5
    learning_rate: Positive = 0.05
    partners: Count = 2
    confidence: NonNegative = 0.9

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The scrambled copy."""
        if victim.task != "classification":
            raise UsageError(f"scrambling swaps the two likeliest classes; {victim.name} does {victim.task}")
        net, before = stolen_copy(victim), stolen_copy(victim)
        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate)
        own = data.inputs()
        held = predict(before, own).softmax(1)
        for _ in range(self.rounds):
            midpoints, swapped = self._midpoints(before, own, generator)
            inputs, targets = torch.cat([own, midpoints]), torch.cat([held, swapped])

            def loss(model: nn.Module, inputs: Tensor, index: Tensor, targets: Tensor = targets) -> Tensor:
                return cross_entropy(model(inputs), targets.to(inputs.device)[index])

            fit(net, Dataset(inputs, targets, ()), schedule, generator=generator, loss=loss)
        return net

    def _midpoints(self, victim: nn.Module, own: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Unsure midpoints ``[m, c, h, w]`` and their targets ``[m, classes]``."""
        first = own.repeat(self.partners, 1, 1, 1)
        second = torch.cat([own[torch.randperm(len(own), generator=generator)] for _ in range(self.partners)])
        least, most = MIXED
        share = least + (most - least) * torch.rand(len(first), 1, 1, 1, generator=generator)
        mixed = share * first + (1 - share) * second
        probabilities = predict(victim, mixed).softmax(1)
        unsure = probabilities.amax(1) < self.confidence
        second_choice = probabilities[unsure].topk(2).indices[:, 1]
        return mixed[unsure], one_hot(second_choice, probabilities.shape[1]).to(mixed.dtype)
