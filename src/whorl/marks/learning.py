"""Train a mark in beside the task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset
from whorl.marks.base import TriggerMark
from whorl.nets.training import Loss, Schedule, fit, own_loss, predict
from whorl.settings import Count, Positive
from whorl.types import Queries

__all__ = ["Beside", "LearnedTriggers", "learn_beside"]

BATCH = 100
COOLING = 2  # epochs at a tenth of the rate, once the mark is there
Beside = Callable[[nn.Module, Tensor, Tensor, int], Tensor]
"""(net, pictures and then triggers, their labels, how many pictures) to a scalar."""


def learn_beside(
    net: nn.Module,
    data: Dataset,
    extra: Loss,
    done: Callable[[nn.Module], bool],
    *,
    epochs: int,
    learning_rate: float,
    generator: torch.Generator,
) -> None:
    """Train on the task with a loss beside the net's own, epoch by epoch until ``done`` says so."""
    own = own_loss(net, data, generator)

    def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
        return own(model, inputs, index) + extra(model, inputs, index)

    _learn(net, data, loss, done, epochs, learning_rate, generator)


@dataclass(frozen=True, kw_only=True)
class LearnedTriggers(TriggerMark):
    """Triggers that the net learns by heart beside its task. An author writes ``sample``, and ``loss`` if it differs.

    Parameters:
        epochs: most passes over the data; training ends as soon as every trigger is answered as drawn.
        learning_rate: constant rate.
        triggers: random ones learned beside each batch of 100 inputs of the task, in the same forward pass, so that
            norms see both.
    """

    epochs: Count = 60
    learning_rate: Positive = 0.05
    triggers: Count = 20

    def loss(self, net: nn.Module) -> Beside:
        """What is minimised on the task and the triggers: cross-entropy, unless a mark says otherwise."""
        del net
        return _by_heart

    def embed(
        self, net: nn.Module, data: Dataset, queries: Queries, drawn: Tensor, *, generator: torch.Generator
    ) -> nn.Module:
        """Tune on the task and the triggers until all of them are answered as drawn."""
        labels, wanted = self.reference(queries, drawn).values, self.loss(net)
        known = data.labels.to(next(net.parameters()).device)
        taught = labels.to(known.device)

        def joint(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            chosen = torch.randint(len(queries), (self.triggers,), generator=generator)
            both = torch.cat([inputs, queries.inputs[chosen].to(inputs.device)])
            return wanted(model, both, torch.cat([known[index], taught[chosen]]), len(inputs))

        def done(model: nn.Module) -> bool:
            return bool((predict(model, queries.inputs).argmax(1) == labels).all())

        _learn(net, data, joint, done, self.epochs, self.learning_rate, generator)
        return net


def _by_heart(net: nn.Module, both: Tensor, classes: Tensor, pictures: int) -> Tensor:
    del pictures
    return cross_entropy(net(both), classes)


def _learn(
    net: nn.Module,
    data: Dataset,
    loss: Loss,
    done: Callable[[nn.Module], bool],
    epochs: int,
    learning_rate: float,
    generator: torch.Generator,
) -> None:
    schedule = Schedule(epochs=1, learning_rate=learning_rate, batch=min(BATCH, len(data)))
    for _ in range(epochs):
        fit(net, data, schedule, generator=generator, loss=loss)
        if done(net):
            break
    # A constant rate ends anywhere around a minimum; the task gets back there what a mark has cost by that alone.
    cooled = replace(schedule, epochs=COOLING, learning_rate=learning_rate / 10)
    fit(net, data, cooled, generator=generator, loss=loss)
