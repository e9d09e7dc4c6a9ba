"""Train a mark in beside the task."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset
from whorl.nets.training import Loss, Schedule, fit, own_loss, predict

__all__ = ["learn_beside", "learn_triggers"]

BATCH = 100


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


def learn_triggers(
    net: nn.Module,
    data: Dataset,
    triggers: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    learning_rate: float,
    beside: int,
    generator: torch.Generator,
) -> None:
    """Train on the task and ``beside`` random triggers in every batch, until all are answered as ``labels`` say.

    Triggers stand in the same forward pass as the task's pictures, so that norms see both.

    Shape:
        triggers: ``[n, *input]``. labels: ``[n]`` int64.
    """
    known = data.labels.to(next(net.parameters()).device)
    taught = labels.to(known.device)

    def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
        chosen = torch.randint(len(triggers), (beside,), generator=generator)
        both = torch.cat([inputs, triggers[chosen].to(inputs.device)])
        return cross_entropy(model(both), torch.cat([known[index], taught[chosen]]))

    def done(model: nn.Module) -> bool:
        return bool((predict(model, triggers).argmax(1) == labels).all())

    _learn(net, data, loss, done, epochs, learning_rate, generator)


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
            return
