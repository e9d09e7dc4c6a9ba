"""One training loop for everything that trains: victims, thieves and independent models.

What differs between them is the loss, which parameters move, and the learning rate; those are arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from whorl.data.base import Dataset

__all__ = ["Loss", "Schedule", "accuracy", "build", "fit", "predict"]

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(net, inputs [b, c, h, w], positions [b] in the data set) to a scalar."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train: SGD with Nesterov momentum.

    ``learning_rate`` is the peak of one cycle (Smith & Topin, 2018) or the constant rate; ``shift`` is the largest
    random translation in pixels; ``flip`` mirrors half of the pictures.
    """

    epochs: int
    learning_rate: float
    policy: Literal["one-cycle", "constant"] = "constant"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 100
    shift: int = 1
    flip: bool = False


def build(architecture: str, input_shape: tuple[int, int, int], classes: int, generator: torch.Generator) -> nn.Module:
    """A freshly initialised net of the catalog, on the CPU. The global random state is not touched."""
    from whorl.nets import NETS
    from whorl.nets.base import Classifier, initialise

    with torch.device("meta"):
        net = NETS.make(architecture, input_shape=input_shape, classes=classes)
    net.to_empty(device="cpu")
    if isinstance(net, Classifier):
        net.mean.fill_(0.5)
        net.std.fill_(0.25)
    initialise(net, generator)
    return net


def fit(
    net: nn.Module,
    dataset: Dataset,
    schedule: Schedule,
    *,
    generator: torch.Generator,
    loss: Loss | None = None,
    parameters: Iterable[nn.Parameter] | None = None,
    after_step: Callable[[], None] | None = None,
) -> None:
    """Train ``net`` in place on its own device; it is left in evaluation mode.

    Parameters:
        loss: cross-entropy on the data set's labels by default.
        parameters: those that move; all by default. With a subset the norms keep their statistics, since a thief
            who trains the head alone does not run the body in training mode.
        after_step: called after each step (to keep pruned weights at zero).
    """
    device = next(net.parameters()).device
    moving = list(net.parameters() if parameters is None else parameters)
    kept = {id(parameter) for parameter in moving}
    required = {parameter: parameter.requires_grad for parameter in net.parameters()}
    for parameter in required:
        parameter.requires_grad_(id(parameter) in kept)
    labels = dataset.labels.to(device)
    loss = loss or (lambda model, inputs, index: cross_entropy(model(inputs), labels[index]))
    steps = max(1, len(dataset) // schedule.batch)
    optimizer = torch.optim.SGD(
        moving,
        lr=schedule.learning_rate,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
        nesterov=schedule.momentum > 0,
    )
    scheduler = (
        torch.optim.lr_scheduler.OneCycleLR(
            optimizer, schedule.learning_rate, total_steps=schedule.epochs * steps + 1, cycle_momentum=False
        )
        if schedule.policy == "one-cycle"
        else None
    )
    net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] missing in torch's overloads
    net.train(parameters is None)
    for _ in range(schedule.epochs):
        order = torch.randperm(len(dataset), generator=generator)
        for step in range(steps):
            index = order[step * schedule.batch : (step + 1) * schedule.batch]
            inputs = _augment(dataset.inputs(index), schedule, generator)
            inputs = inputs.to(device, memory_format=torch.channels_last)
            optimizer.zero_grad()
            loss(net, inputs, index.to(device)).backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            if after_step is not None:
                after_step()
    for parameter, flag in required.items():
        parameter.requires_grad_(flag)
        parameter.grad = None
    net.eval()


@torch.inference_mode()
def predict(net: nn.Module, inputs: Tensor, *, batch: int = 500) -> Tensor:
    """Logits ``[n, classes]`` on the CPU, in evaluation mode, batch by batch."""
    device = next(net.parameters()).device
    net.eval()
    rows = [net(chunk.to(device, memory_format=torch.channels_last)).cpu() for chunk in inputs.split(batch)]
    return torch.cat(rows)


def accuracy(net: nn.Module, dataset: Dataset) -> float:
    """Share of pictures classified as labelled."""
    return float((predict(net, dataset.inputs()).argmax(1) == dataset.labels).float().mean())


def _augment(inputs: Tensor, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """Translate each picture by up to ``shift`` pixels and mirror half of them."""
    count, _, height, width = inputs.shape
    if schedule.shift:
        reach = schedule.shift
        moves = torch.randint(0, 2 * reach + 1, (2, count, 1), generator=generator)
        rows = (torch.arange(height) + moves[0])[:, None, :, None]
        columns = (torch.arange(width) + moves[1])[:, None, None, :]
        padded = pad(inputs, (reach,) * 4, mode="replicate")
        items = torch.arange(count)[:, None, None, None]
        channels = torch.arange(inputs.shape[1])[None, :, None, None]
        inputs = padded[items, channels, rows, columns]
    if schedule.flip:
        mirrored = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
        inputs = torch.where(mirrored, inputs.flip(3), inputs)
    return inputs
