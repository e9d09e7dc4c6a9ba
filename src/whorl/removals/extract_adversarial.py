"""Adversarial extraction: a net that learnt the victim's labels is then trained on adversarial examples of its own.

Source: Guan, Liang, He, *SAC*, NeurIPS 2022, whose benchmark hardens label-extracted models with two epochs of PGD
(epsilon 4/256, step 1/256, 30 iterations, learning rate .001; taken from the published code). The victim's labels
stand for the true ones in both stages and are asked for once.

Changed from the source: rates are constant in the second stage. The rate of the published code moves next to nothing
in the few steps that small data sets make in two epochs, so that the default is ten times as large.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import nn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.training import Schedule, fit, own_loss
from whorl.oracles.base import Oracle
from whorl.removals.adversarial import Ball
from whorl.removals.base import Removal
from whorl.removals.extract import untrained
from whorl.settings import Architecture, Count, Positive, Whole
from whorl.types import Access

__all__ = ["ExtractAdversarial"]


@dataclass(frozen=True)
class ExtractAdversarial(Removal):
    """Train ``architecture`` from nothing on the victim's labels, then for ``hardening_epochs`` by PGD.

    ``epsilon`` is the radius in the largest norm and ``step`` the length of each of the ``iterations``, in units of
    [0, 1] pixels.
    """

    family: ClassVar[str] = "extract"
    needs: ClassVar[Access] = Access.LABELS

    architecture: Architecture
    epochs: Count = 10
    learning_rate: Positive = 0.2
    epsilon: Annotated[float | Fraction, Ge(0), Le(1)] = Fraction(4, 256)
    step: Annotated[float | Fraction, Ge(0), Le(1)] = Fraction(1, 256)
    iterations: Count = 30
    hardening_epochs: Whole = 2
    hardening_learning_rate: Positive = 0.01

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The extracted and hardened net."""
        if victim.task != "classification":
            raise UsageError(f"adversarial extraction learns labels; {victim.name} does {victim.task}")
        ball = Ball(float(self.epsilon), float(self.step), self.iterations)
        net = untrained(str(self.architecture), victim, data, generator)
        classes = tuple(map(str, range(victim.classes)))
        answered = replace(data, labels=victim.labels(data.inputs()), classes=classes)
        own = own_loss(net, answered, generator)
        learning = Schedule(epochs=self.epochs, learning_rate=self.learning_rate, policy="one-cycle")
        fit(net, answered, learning, generator=generator, loss=own)
        hardening = Schedule(epochs=self.hardening_epochs, learning_rate=self.hardening_learning_rate)
        fit(net, answered, hardening, generator=generator, loss=ball.hardened(own, generator))
        return net
