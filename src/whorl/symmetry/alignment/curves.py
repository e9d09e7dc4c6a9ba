"""Paths of low loss between two nets, found by training what bends them.

Such a curve joins independent nets too, so it says nothing of descent; it tells how one training regime's nets lie.

Source: Garipov et al., *Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs*, NeurIPS 2018, arXiv 1802.10026,
section 3; settings of its code.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import comb
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.training import Schedule
from whorl.symmetry.alignment.paths import interpolate
from whorl.symmetry.alignment.permutations import State

__all__ = ["Curve", "connect"]

Kind = Literal["bezier", "chain"]
SCHEDULE: Final = Schedule(epochs=20, learning_rate=0.03, batch=128)


@dataclass(frozen=True)
class Curve:
    """A Bézier curve or a polygonal chain in weight space; called with a position in [0, 1], it gives the state there.

    ``bends`` are the states that hold it, the two ends among them. Statistics of batch norms must be taken anew where
    it is evaluated (`whorl.symmetry.alignment.paths.profile` does).
    """

    kind: Kind
    bends: tuple[State, ...]

    def __call__(self, t: float) -> dict[str, Tensor]:
        """The state at ``t``; what holds whole numbers is the first end's."""
        shares = _shares(self.kind, len(self.bends), t)
        return {
            tensor: _mixed([bend[tensor] for bend in self.bends], shares) if value.is_floating_point() else value
            for tensor, value in self.bends[0].items()
        }


def _shares(kind: Kind, count: int, t: float) -> list[float]:
    """How much of each bend is in the state at ``t``; they sum to 1."""
    last = count - 1
    if kind == "bezier":
        return [comb(last, i) * (1 - t) ** (last - i) * t**i for i in range(count)]
    return [max(0.0, 1 - abs(t * last - i)) for i in range(count)]


def _mixed(values: list[Tensor], shares: list[float]) -> Tensor:
    return torch.stack([share * value for share, value in zip(shares, values, strict=True)]).sum(0)


def connect(
    net: nn.Module,
    one: State,
    other: State,
    dataset: Dataset,
    *,
    generator: torch.Generator,
    kind: Kind = "bezier",
    bends: int = 3,
    schedule: Schedule = SCHEDULE,
) -> Curve:
    """Train the inner bends of a curve between two states of ``net``, which itself stays as it is.

    The expected cross-entropy over positions is minimised with one position drawn for each minibatch, from the
    straight line on, by SGD; the weight decay pulls on the weights at the position. The rate is constant for half of
    the steps and falls to a hundredth in the next 40 %.

    Parameters:
        bends: the states that hold the curve, both ends included.
        schedule: how long and how fast; its policy and augmentation are not used.

    Raises:
        UsageError: states of different nets, less than 3 bends, or a data set without classes.
    """
    if bends < 3 or not dataset.classes:
        raise UsageError("a curve has 3 bends or more, both ends included, and learns from labelled pictures")
    net = deepcopy(net).train()
    names = [name for name, _ in net.named_parameters()]
    line = [interpolate(one, other, i / (bends - 1)) for i in range(bends)]
    inner = [{name: state[name].detach().clone().requires_grad_() for name in names} for state in line[1:-1]]
    moving = [value for bend in inner for value in bend.values()]
    optimizer = torch.optim.SGD(moving, lr=schedule.learning_rate, momentum=schedule.momentum)
    batches = [
        index
        for _ in range(schedule.epochs)
        for index in torch.randperm(len(dataset), generator=generator).split(schedule.batch)
    ]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / len(batches)))
    held = [line[0], *inner, line[-1]]
    for index in batches:
        shares = _shares(kind, bends, float(torch.rand((), generator=generator)))
        weights = {name: _mixed([bend[name] for bend in held], shares) for name in names}
        loss = cross_entropy(functional_call(net, weights, (dataset.inputs(index),)), dataset.labels[index])
        decay = torch.stack([value.square().sum() for value in weights.values()]).sum() * (schedule.weight_decay / 2)
        optimizer.zero_grad()
        (loss + decay).backward()
        optimizer.step()
        scheduler.step()
    for state, bend in zip(line[1:-1], inner, strict=True):
        state |= {name: value.detach() for name, value in bend.items()}
    return Curve(kind, tuple(line))


def _rate(progress: float) -> float:
    """The share of the learning rate after a share of all steps."""
    return 1.0 if progress < 0.5 else max(0.01, 1 - 0.99 * (progress - 0.5) / 0.4)
