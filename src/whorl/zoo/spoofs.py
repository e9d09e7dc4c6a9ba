"""Forged training logs: whole and well-formed, and made without the training that they claim.

Each forger holds a stolen net and the data, and writes a log from fresh weights to (nearly) the stolen ones. They are
published attacks, run as a test of every rule that accepts a log (docs/logs.md).

- `straight_line`: checkpoints on a line, with a learning rate so small that honest steps hardly move. The infinitesimal
  update of Fang et al., *Proof-of-Learning is Currently More Broken Than You Think*, arXiv 2208.03567.
- `coasting_line`: the same, where each checkpoint claims a momentum that carries a replay along the line. It is
  not published; a rule that compares weights alone invites it.
- `where_looked`: trains in some segments, those with the largest moves, and jumps in the others; the top-Q rule
  looks at the former only. Fang et al., 2022, blindfold top-Q.
- `crafted_batches`: a line, where batches are optimised so that their gradients point along it. Zhang et al.,
  *"Adversarial Examples" for Proof-of-Learning*, IEEE S&P 2022.
- `drifting`: trains in earnest, and moves each checkpoint a little to the stolen net. An imitation that costs the whole
  training.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset
from whorl.nets.training import build
from whorl.zoo.logged import Recorder

__all__ = ["SPOOFS", "Forger", "coasting_line", "crafted_batches", "drifting", "straight_line", "where_looked"]

TINY: Final = 1e-5  # the learning rate that a line claims


@dataclass(frozen=True, kw_only=True)
class Forger:
    """What a forger has: a stolen net, its architecture's expression, data, and chance.

    ``segments`` checkpoints of ``every`` steps are written, batches have ``batch`` inputs. ``steps`` counts the
    gradients of weights that were taken: what the forgery costs, in steps of training.
    """

    stolen: nn.Module
    architecture: str
    data: Dataset
    generator: torch.Generator
    segments: int = 40
    every: int = 14
    batch: int = 50
    learning_rate: float = 0.05

    def begin(self) -> nn.Module:
        """A net with fresh weights, drawn as its architecture's are, and the stolen net's normalisation."""
        net = build(self.architecture, self.data.input_shape, len(self.data.classes), self.generator)
        own = dict(self.stolen.named_buffers())
        for name, value in net.named_buffers():
            value.copy_(own[name])
        return net.train()

    def draws(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the data without end."""
        while True:
            order = torch.randperm(len(self.data), generator=self.generator)
            for index in order.split(self.batch):
                if len(index) == self.batch:
                    yield self.data.inputs(index), self.data.labels[index]

    def record(self, folder: Path, net: nn.Module, optimiser: torch.optim.Optimizer) -> Recorder:
        """The log that is forged."""
        claims = {"architecture": self.architecture, "data": self.data.expression, "batch": self.batch}
        return Recorder(folder, net, optimiser, every=self.every, **claims)


def straight_line(forger: Forger, folder: Path) -> int:
    """Checkpoints on a line. Returns the gradients that it took: none."""
    net = forger.begin()
    optimiser = torch.optim.SGD(net.parameters(), lr=TINY)
    return _along(forger, folder, net, optimiser, lambda *_: None)


def coasting_line(forger: Forger, folder: Path) -> int:
    """A line whose checkpoints claim the momentum that leads along it. Returns the gradients that it took: none."""
    net = forger.begin()
    optimiser = torch.optim.SGD(net.parameters(), lr=TINY, momentum=0.9)
    reach = sum(0.9**step for step in range(1, forger.every + 1)) * TINY  # what is left of a momentum after a segment

    def coast(move: list[Tensor]) -> None:
        for parameter, each in zip(net.parameters(), move, strict=True):
            optimiser.state[parameter]["momentum_buffer"] = -each / reach

    return _along(forger, folder, net, optimiser, coast)


def where_looked(forger: Forger, folder: Path, *, top: int = 2, rate: float = 0.5) -> int:
    """Train in the first ``top`` segments, at a rate so high that they move most, and jump from there.

    Returns the gradients that it took.
    """
    net, draws = forger.begin(), forger.draws()
    optimiser = torch.optim.SGD(net.parameters(), lr=rate)
    recorder = forger.record(folder, net, optimiser)
    for inputs, labels in itertools.islice(draws, top * forger.every):
        _step(net, optimiser, recorder, inputs, labels)
    line = _moves(net, forger.stolen, forger.segments - top)
    for _ in range(forger.segments - top):
        _skip(forger, net, recorder, draws, line)
    recorder.ended()
    return top * forger.every


def crafted_batches(forger: Forger, folder: Path, *, effort: int = 30, step_size: float = 0.05) -> int:
    """A line where the pixels of each batch are optimised so that its gradient leads along it.

    ``effort`` steps of Adam a batch, each of which differentiates a gradient, about the cost of three of training.
    Returns the gradients that it took, in steps of training.
    """
    net, draws = forger.begin(), forger.draws()
    optimiser = torch.optim.SGD(net.parameters(), lr=forger.learning_rate)
    recorder = forger.record(folder, net, optimiser)
    line = _moves(net, forger.stolen, forger.segments)
    for _ in range(forger.segments):
        end = [parameter + move for parameter, move in zip(net.parameters(), line, strict=True)]
        replayed, stepping = _twin(net, forger.learning_rate)
        for left in range(forger.every, 0, -1):
            inputs, labels = next(draws)
            wanted = [
                (now - goal) / (left * forger.learning_rate)
                for now, goal in zip(replayed.parameters(), end, strict=True)
            ]
            made = _crafted(replayed, inputs, labels, wanted, effort, step_size)
            stepping.zero_grad()
            loss = cross_entropy(replayed(made), labels)
            loss.backward()
            stepping.step()
            recorder.fed(made, labels, loss)
            if left == 1:
                _place(net, end)
            recorder.stepped()
    recorder.ended()
    return forger.segments * forger.every * effort * 3


def drifting(forger: Forger, folder: Path, *, share: float = 0.1) -> int:
    """Train, and at each checkpoint move on to the stolen net by ``share`` of the segment's own move."""
    net, draws = forger.begin(), forger.draws()
    optimiser = torch.optim.SGD(net.parameters(), lr=forger.learning_rate)
    recorder = forger.record(folder, net, optimiser)
    goal = [each.detach() for each in forger.stolen.parameters()]
    for _ in range(forger.segments):
        before = [each.detach().clone() for each in net.parameters()]
        for place, (inputs, labels) in enumerate(itertools.islice(draws, forger.every), 1):
            last = place == forger.every
            _step(net, optimiser, recorder, inputs, labels, then=_nudge(net, before, goal, share) if last else None)
    recorder.ended()
    return forger.segments * forger.every


SPOOFS: Final[dict[str, Callable[..., int]]] = {
    each.__name__: each for each in (straight_line, coasting_line, where_looked, crafted_batches, drifting)
}


def _along(
    forger: Forger, folder: Path, net: nn.Module, optimiser: torch.optim.Optimizer, claim: Callable[[list[Tensor]], Any]
) -> int:
    recorder, draws = forger.record(folder, net, optimiser), forger.draws()
    line = _moves(net, forger.stolen, forger.segments)
    for _ in range(forger.segments):
        _skip(forger, net, recorder, draws, line, claim)
    recorder.ended()
    return 0


def _skip(
    forger: Forger,
    net: nn.Module,
    recorder: Recorder,
    draws: Iterator[tuple[Tensor, Tensor]],
    move: list[Tensor],
    claim: Callable[[list[Tensor]], Any] = lambda _: None,
) -> None:
    """Claim a segment of ordinary batches, and move without them."""
    for left in range(forger.every, 0, -1):
        recorder.fed(*next(draws), 2.0)
        if left == 1:
            _place(net, [now + each for now, each in zip(net.parameters(), move, strict=True)])
            claim(move)
        recorder.stepped()


def _step(
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    recorder: Recorder,
    inputs: Tensor,
    labels: Tensor,
    then: Callable[[], None] | None = None,
) -> None:
    optimiser.zero_grad()
    loss = cross_entropy(net(inputs), labels)
    loss.backward()
    recorder.fed(inputs, labels, loss)
    optimiser.step()
    if then is not None:
        then()
    recorder.stepped()


def _crafted(
    net: nn.Module, inputs: Tensor, labels: Tensor, wanted: list[Tensor], effort: int, step_size: float
) -> Tensor:
    """Inputs in [0, 1] whose mean gradient comes as near as can be to the wanted one, in Euclidean distance."""
    made = inputs.clone().requires_grad_()
    optimiser = torch.optim.Adam([made], lr=step_size)
    weights = {name: each.detach().requires_grad_() for name, each in net.named_parameters()}
    for _ in range(effort):
        loss = cross_entropy(functional_call(net, weights, (made,)), labels)
        found = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        miss = torch.stack([(one - other).square().sum() for one, other in zip(found, wanted, strict=True)]).sum()
        (made.grad,) = torch.autograd.grad(miss, [made])
        optimiser.step()
        with torch.no_grad():
            made.clamp_(0, 1)
    return made.detach()


def _twin(net: nn.Module, rate: float) -> tuple[nn.Module, torch.optim.Optimizer]:
    made = copy.deepcopy(net)
    return made, torch.optim.SGD(made.parameters(), lr=rate)


def _nudge(net: nn.Module, before: list[Tensor], goal: list[Tensor], share: float) -> Callable[[], None]:
    def move() -> None:
        now = [each.detach() for each in net.parameters()]
        moved = _norm([one - other for one, other in zip(now, before, strict=True)])
        ahead = [end - each for end, each in zip(goal, now, strict=True)]
        step = min(1.0, share * moved / max(_norm(ahead), 1e-12))
        _place(net, [each + step * way for each, way in zip(now, ahead, strict=True)])

    return move


def _moves(net: nn.Module, stolen: nn.Module, count: int) -> list[Tensor]:
    """The move of each of ``count`` equal steps to the stolen net."""
    return [(end - now).detach() / count for now, end in zip(net.parameters(), stolen.parameters(), strict=True)]


@torch.no_grad()
def _place(net: nn.Module, weights: list[Tensor]) -> None:
    for parameter, value in zip(net.parameters(), weights, strict=True):
        parameter.copy_(value)


def _norm(parts: list[Tensor]) -> float:
    return float(torch.stack([each.double().square().sum() for each in parts]).sum().sqrt())
