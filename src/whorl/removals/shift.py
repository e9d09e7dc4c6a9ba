"""Weight shifting: every filter is moved by the layer's mean filter and by noise, then the copy is tuned.

Paper: Lukas, Jiang, Li, Kerschbaum, *SoK: How Robust is Image Classification Deep Neural Network Watermarking?*, IEEE
S&P 2022, whose toolbox subtracts ``strength`` times the mean over a layer's filters and noise of ``noise`` standard
deviations of the layer from its convolutions, and tunes for 10 epochs at the victim's learning rate. Changed from it:
tuning takes one cycle of 15 epochs, which a few hundred pictures need to mend what the noise breaks; a net without
convolutions has its hidden linear layers shifted, since it would else be tuned only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.training import Schedule, fit
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, head_of, stolen_copy
from whorl.settings import NonNegative, Positive, Whole

__all__ = ["ShiftWeights"]


@dataclass(frozen=True)
class ShiftWeights(Removal):
    """``W -= strength * mean(W) + noise * std(W) * N(0, 1)`` in each convolution, then tuning.

    The mean is over the layer's filters, the standard deviation over all of its weights.
    """

    family: ClassVar[str] = "shift"

    strength: NonNegative = 1.5
    noise: NonNegative = 1.0
    epochs: Whole = 15
    learning_rate: Positive = 0.1

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The shifted and tuned copy."""
        if not (self.strength or self.noise or self.epochs):
            raise UsageError(
                "shift_weights shifts nothing, so its outcome is the victim; give strength, noise or epochs"
            )
        net = stolen_copy(victim)
        for layer in _shifted_layers(net):
            weight = layer.weight.data
            drawn = torch.randn(weight.shape, generator=generator).to(weight)  # on the CPU, where the generator is
            weight -= self.strength * weight.mean(0) + self.noise * weight.std() * drawn
        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate, policy="one-cycle")
        fit(net, data, schedule, generator=generator)
        return net


def _shifted_layers(net: nn.Module) -> list[nn.Conv2d] | list[nn.Linear]:
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    head = head_of(net)
    return convolutions or [module for module in net.modules() if isinstance(module, nn.Linear) and module is not head]
