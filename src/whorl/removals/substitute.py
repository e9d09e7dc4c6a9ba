"""What thieves who pay for their queries have in common: a substitute net, its pictures, and what it learns from.

Terms: *substitute* after Papernot et al., AsiaCCS 2017; the public *pool* and the soft cross-entropy on returned
probabilities after Orekondy et al., CVPR 2019.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, one_hot

from whorl.data import SOURCES
from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.expressions import Call
from whorl.nets.training import Schedule, fit
from whorl.oracles.base import Oracle, require
from whorl.removals.base import Removal
from whorl.settings import Architecture, Count, Positive
from whorl.types import Access

__all__ = ["Substitution", "public"]


@dataclass(frozen=True)
class Substitution(Removal):
    """Train ``architecture`` from nothing on the victim's ``answers`` to questions that the subclass chooses.

    Training is one cycle of SGD with peak ``learning_rate``, ``batch`` pictures a step.
    """

    family: ClassVar[str] = "extract"
    needs: ClassVar[Access] = Access.LABELS

    architecture: Architecture
    answers: Literal["labels", "probabilities"] = "labels"
    epochs: Count = 20
    learning_rate: Positive = 0.1
    batch: Count = 50

    def check(self, victim: Oracle) -> None:
        """Refuse a victim that cannot be asked so, before the first query."""
        if victim.task != "classification":
            raise UsageError(
                f"{type(self).__name__} learns from labels or probabilities; {victim.name} does {victim.task}. "
                f"Type: extract({self.architecture}, outputs)"
            )
        if self.answers == "probabilities":
            require(victim, Access.PROBABILITIES, "extraction from probabilities")

    def ask(self, victim: Oracle, inputs: Tensor) -> Tensor:
        """The victim's answers as probabilities ``[n, classes]``; a label is all of the mass on its class."""
        if self.answers == "probabilities":
            return victim.probabilities(inputs)
        return one_hot(victim.labels(inputs), victim.classes).float()

    def teach(
        self, net: nn.Module, inputs: Tensor, targets: Tensor, generator: torch.Generator, **changes: Any
    ) -> None:
        """Train ``net`` in place by cross-entropy against probabilities ``[n, classes]``.

        ``changes`` are settings of `Schedule` other than the thief's own.
        """

        def loss(model: nn.Module, pictures: Tensor, index: Tensor) -> Tensor:
            return cross_entropy(model(pictures), targets.to(pictures.device)[index])

        own = Schedule(epochs=self.epochs, learning_rate=self.learning_rate, policy="one-cycle", batch=self.batch)
        schedule = replace(own, **changes)
        fit(net, Dataset(inputs, targets, ()), schedule, generator=generator, loss=loss)


def public(pool: str | Call, data: Dataset, victim: Oracle, budget: int) -> Dataset:
    """The pictures that a thief may ask about: those of the source ``pool``, or ``data``, the thief's own.

    Other pictures than the victim takes are made grey where it sees another number of channels, and resized.

    Raises:
        UsageError: there are fewer than ``budget``, or rows of features would have to be resized.
    """
    own = SOURCES.make(pool).load("attacker") if pool else data
    if len(own) < budget:
        raise UsageError(
            f"the pool holds {len(own)} pictures and {budget} queries are asked for; give a smaller budget"
        )
    if own.input_shape == victim.input_shape:
        return own
    if 1 in (own.input_shape[1], victim.input_shape[1]):
        raise UsageError(
            f"{victim.name} takes inputs of shape {victim.input_shape}; the pool holds {own.input_shape}, "
            "and rows of features cannot be resized. Give another pool"
        )
    return replace(own, images=_seen(own.inputs(), victim.input_shape))


def _seen(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Pictures ``[n, c, h, w]`` in the shape that another model takes."""
    if images.shape[1] != shape[0]:
        images = images.mean(1, keepdim=True).expand(-1, shape[0], -1, -1)
    return interpolate(images, size=shape[1:], mode="bilinear", antialias=True).clamp(0, 1)
