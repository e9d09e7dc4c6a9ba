"""Extraction and distillation: a new net learns the victim's answers on the thief's pictures.

Papers: Tramer et al., USENIX Security 2016 (labels, probabilities); Hinton et al., arXiv 1503.02531 (temperature,
with the factor T squared that keeps gradients comparable). Models with real outputs are learnt by mean squared error,
which is what distillation tends to at a high temperature (Hinton et al., section 2.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.base import Net
from whorl.nets.training import Loss, Schedule, build, fit, task_of
from whorl.oracles.base import Oracle, require
from whorl.removals.base import Removal
from whorl.settings import Architecture, Count, Positive
from whorl.types import Access

__all__ = ["Distil", "Extract", "untrained"]

CODES: Final = 4096  # what a thief asks of a generative model, whose inputs cost nothing to make


@dataclass(frozen=True)
class Extract(Removal):
    """Train ``architecture`` from nothing on the victim's ``labels``, ``probabilities`` or real ``outputs``.

    A generative victim is asked about codes drawn from N(1/2, 1/36), which its inputs in [0, 1] cover.
    """

    family: ClassVar[str] = "extract"
    needs: ClassVar[Access] = Access.LABELS

    architecture: Architecture
    answers: Literal["labels", "probabilities", "outputs"] = "labels"
    epochs: Count = 10
    learning_rate: Positive = 0.2

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The extracted net."""
        real = victim.task != "classification"
        known = ("outputs",) if real else ("labels", "probabilities")
        if self.answers not in known:
            raise UsageError(
                f"extraction of a {victim.task} model learns from its {' or '.join(known)}, not {self.answers!r}"
            )
        if self.answers == "probabilities":
            require(victim, Access.PROBABILITIES, "extraction from probabilities")
        net = untrained(str(self.architecture), victim, data, generator)
        if real:
            return _regressed(net, self, victim, data, generator)
        answers = victim.probabilities if self.answers == "probabilities" else victim.labels
        targets = answers(data.inputs())

        def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            return cross_entropy(model(inputs), targets.to(inputs.device)[index])

        return _taught(net, self, data, loss, generator)


@dataclass(frozen=True)
class Distil(Removal):
    """Train ``architecture`` on the victim's softened outputs at ``temperature``.

    Where the outputs are no logits there is nothing to soften, and it is `Extract` of the outputs.
    """

    family: ClassVar[str] = "distil"
    needs: ClassVar[Access] = Access.LOGITS

    architecture: Architecture
    temperature: Positive = 4.0
    epochs: Count = 10
    learning_rate: Positive = 0.2

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The student."""
        net = untrained(str(self.architecture), victim, data, generator)
        if victim.task != "classification":
            return _regressed(net, self, victim, data, generator)
        targets = (victim.logits(data.inputs()) / self.temperature).softmax(1)

        def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            soft = targets.to(inputs.device)[index]
            return cross_entropy(model(inputs) / self.temperature, soft) * self.temperature**2

        return _taught(net, self, data, loss, generator)


def untrained(architecture: str, victim: Oracle, data: Dataset, generator: torch.Generator) -> nn.Module:
    """The thief's net, built before the first query: a mistake in its name must not cost any.

    Raises `UsageError` where nets of that architecture do another task than the victim.
    """
    architecture = str(architecture)
    if (task := task_of(architecture)) != victim.task:
        raise UsageError(f"{architecture} does {task}; it cannot learn from {victim.name}, which does {victim.task}")
    net = build(architecture, victim.input_shape, victim.classes, generator)
    if isinstance(net, Net):
        net.standardise(data.inputs())
    return net


def _regressed(
    net: nn.Module, removal: Extract | Distil, victim: Oracle, data: Dataset, generator: torch.Generator
) -> nn.Module:
    inputs = data.inputs()
    if victim.task == "generation":
        inputs = (torch.randn(CODES, *victim.input_shape, generator=generator) / 6 + 0.5).clamp(0, 1)
    asked = Dataset(inputs, victim.scores(inputs), ())

    def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
        return mse_loss(model(inputs), asked.labels.to(inputs.device)[index])

    return _taught(net, removal, asked, loss, generator)


def _taught(
    net: nn.Module, removal: Extract | Distil, data: Dataset, loss: Loss, generator: torch.Generator
) -> nn.Module:
    schedule = Schedule(epochs=removal.epochs, learning_rate=removal.learning_rate, policy="one-cycle")
    fit(net, data, schedule, generator=generator, loss=loss)
    return net
