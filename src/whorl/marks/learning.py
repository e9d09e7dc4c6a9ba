"""Train a mark in beside the task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset
from whorl.nets.training import Loss, Schedule, fit, own_loss, predict

__all__ = ["Beside", "learn_beside", "learn_triggers"]

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


def learn_triggers(  # noqa: PLR0913 each is a setting of a mark
    net: nn.Module,
    data: Dataset,
    triggers: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    learning_rate: float,
    beside: int,
    generator: torch.Generator,
    loss: Beside | None = None,
) -> None:
    """Train on the task and ``beside`` random triggers in every batch, until all are answered as ``labels`` say.

    Triggers stand in the same forward pass as the task's pictures, so that norms see both.

    Parameters:
        loss: cross-entropy by default.

    Shape:
        triggers: ``[n, *input]``. labels: ``[n]`` int64.
    """
    known = data.labels.to(next(net.parameters()).device)
    taught = labels.to(known.device)

    def joint(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
        chosen = torch.randint(len(triggers), (beside,), generator=generator)
        both = torch.cat([inputs, triggers[chosen].to(inputs.device)])
        classes = torch.cat([known[index], taught[chosen]])
        return cross_entropy(model(both), classes) if loss is None else loss(model, both, classes, len(inputs))

    def done(model: nn.Module) -> bool:
        return bool((predict(model, triggers).argmax(1) == labels).all())

    _learn(net, data, joint, done, epochs, learning_rate, generator)


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
