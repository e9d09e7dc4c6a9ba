"""Adaptive misinformation: the stolen copy answers falsely where it is not sure.

Paper: S. Kariyappa, M. K. Qureshi, *Defending Against Model Stealing Attacks with Adaptive Misinformation*, CVPR 2020.
The honest net learns to be unsure of outliers (outlier exposure, Hendrycks et al., ICLR 2019), a decoy of the same
architecture learns from nothing to miss the true class, and `whorl.nets.misinforming.Misinforming` passes from one to
the other below ``threshold``. The paper trains the honest net with outlier exposure throughout; a thief has a trained
one, which is tuned. Where no ``pool`` of outliers is named, they are mosaics of the thief's own pictures. The paper
varies the threshold to trade accuracy for safety; its default is ours, and so are the rates.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.data import SOURCES
from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.expressions import Call
from whorl.nets.base import Classifier, initialise
from whorl.nets.misinforming import Misinforming, misinformation
from whorl.nets.training import Schedule, fit
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import Count, NonNegative, Positive, Probability, SourceName

__all__ = ["Misinform", "mosaics"]


@dataclass(frozen=True)
class Misinform(Removal):
    """Tune an honest copy for ``epochs`` with outliers weighted ``exposure``, train a decoy for ``decoy_epochs``.

    Parameters:
        pool: a data set of outliers of the victim's shape, as an expression; None to make them.
    """

    family: ClassVar[str] = "defend"

    threshold: Probability = 0.7
    exposure: NonNegative = 1.0
    pool: SourceName | None = None
    epochs: Count = 15
    learning_rate: Positive = 0.05
    decoy_epochs: Count = 10
    decoy_learning_rate: Positive = 0.1

    def outcome(self, architecture: str) -> str:
        """A net of two of the victim's architecture."""
        return str(Call("misinforming", (), (("member", architecture), ("threshold", float(self.threshold)))))

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The misinforming net, whose honest half began as the victim's copy."""
        honest = stolen_copy(victim)
        if not isinstance(honest, Classifier):
            raise UsageError(f"a single classifier can misinform; {victim.name} is {type(honest).__name__}")
        net = Misinforming.of(honest, copy.deepcopy(honest), float(self.threshold))
        outliers = self._outliers(data, generator)

        def exposed(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            chosen = torch.randint(len(outliers), (len(inputs),), generator=generator)
            # In one batch, or the norms' running statistics would fit neither half.
            both = model(torch.cat([inputs, outliers[chosen].to(inputs.device)]))
            sure, unsure = both.chunk(2)
            true = cross_entropy(sure, data.labels.to(inputs.device)[index])
            return true - self.exposure * unsure.log_softmax(1).mean()

        def wrong(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            return misinformation(model(inputs), data.labels.to(inputs.device)[index])

        # The decoy begins after the honest net has used the generator: else it could be the victim's own first weights.
        tuning = Schedule(epochs=self.epochs, learning_rate=self.learning_rate)
        fit(honest, data, tuning, generator=generator, loss=exposed)
        initialise(net.decoy, generator)
        schedule = Schedule(epochs=self.decoy_epochs, learning_rate=self.decoy_learning_rate, policy="one-cycle")
        fit(net.decoy, data, schedule, generator=generator, loss=wrong)
        return net

    def _outliers(self, data: Dataset, generator: torch.Generator) -> Tensor:
        if self.pool is None:
            return mosaics(data.inputs(), generator)
        outliers = SOURCES.make(self.pool).load("attacker")
        if outliers.input_shape != data.input_shape:
            raise UsageError(f"outliers have the shape {data.input_shape} of the pictures; {self.pool} has others")
        return outliers.inputs()


def mosaics(images: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures ``[n, c, h, w]`` put together from quarters of others, each out of its place; rows from their halves."""
    height, width = images.shape[2] // 2, images.shape[3] // 2
    moved, made = images.roll((height, width), (2, 3)), torch.empty_like(images)
    for rows in (slice(0, height), slice(height, None)):
        for columns in (slice(0, width), slice(width, None)):
            order = torch.randperm(len(images), generator=generator)
            made[:, :, rows, columns] = moved[order][:, :, rows, columns]
    return made
