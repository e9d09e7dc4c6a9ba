"""Extraction and distillation: a new net learns the victim's answers on the thief's pictures.

Papers: Tramer et al., USENIX Security 2016 (labels, probabilities); Hinton et al., arXiv 1503.02531 (temperature,
with the factor T squared that keeps gradients comparable).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.base import Classifier
from whorl.nets.training import Loss, Schedule, build, fit
from whorl.oracles.base import Oracle, require
from whorl.removals.base import Removal
from whorl.types import Access

__all__ = ["Distil", "Extract"]


@dataclass(frozen=True)
class Extract(Removal):
    """Train ``architecture`` from nothing on the victim's ``labels`` or ``probabilities``."""

    family: ClassVar[str] = "extract"
    needs: ClassVar[Access] = Access.LABELS

    architecture: str
    answers: Literal["labels", "probabilities"] = "labels"
    epochs: int = 10
    learning_rate: float = 0.2

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The extracted net."""
        if self.answers not in ("labels", "probabilities"):
            raise UsageError(f"extraction learns from labels or probabilities, not {self.answers!r}")
        if self.answers == "probabilities":
            require(victim, Access.PROBABILITIES, "extraction from probabilities")
        net = _untrained(self, victim, data, generator)
        answers = victim.probabilities if self.answers == "probabilities" else victim.labels
        targets = answers(data.inputs())

        def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            return cross_entropy(model(inputs), targets.to(inputs.device)[index])

        return _taught(net, self, data, loss, generator)


@dataclass(frozen=True)
class Distil(Removal):
    """Train ``architecture`` on the victim's softened outputs at ``temperature``."""

    family: ClassVar[str] = "distil"
    needs: ClassVar[Access] = Access.LOGITS

    architecture: str
    temperature: float = 4.0
    epochs: int = 10
    learning_rate: float = 0.2

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The student."""
        net = _untrained(self, victim, data, generator)
        targets = (victim.logits(data.inputs()) / self.temperature).softmax(1)

        def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            soft = targets.to(inputs.device)[index]
            return cross_entropy(model(inputs) / self.temperature, soft) * self.temperature**2

        return _taught(net, self, data, loss, generator)


def _untrained(removal: Extract | Distil, victim: Oracle, data: Dataset, generator: torch.Generator) -> nn.Module:
    """The thief's net, built before the first query: a mistake in its name must not cost any."""
    net = build(str(removal.architecture), victim.input_shape, victim.classes, generator)
    if isinstance(net, Classifier):
        net.standardise(data.inputs())
    return net


def _taught(
    net: nn.Module, removal: Extract | Distil, data: Dataset, loss: Loss, generator: torch.Generator
) -> nn.Module:
    schedule = Schedule(epochs=removal.epochs, learning_rate=removal.learning_rate, policy="one-cycle")
    fit(net, data, schedule, generator=generator, loss=loss)
    return net
