"""Jacobian-based augmentation (JBDA): few pictures, and then synthetic ones along the substitute's own gradient.

Paper: Papernot, McDaniel, Goodfellow, Jha, Celik, Swami, *Practical Black-Box Attacks against Machine Learning*,
AsiaCCS 2017, arXiv 1602.02697, algorithm 1 with the reservoir and the alternating step of its later sections. Each
round trains the substitute F anew, moves pictures to x + lambda sign(dF_y / dx), y being what the victim said of x, and
asks the victim about them.

Changed: moved pictures stay in [0, 1]; the gradient is that of log F_y, which has the same sign and does not vanish;
seeds are drawn at random; the last training is longer than those of the rounds, as in later uses of the attack. After
how many rounds the reservoir begins and the period of the step are options.

Measured on digits: a step that changes its sign each round (period=1) is worth far more than one that always goes where
the substitute is surer already, which is the default because it is how the attack is mostly run.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.torch import frozen
from whorl.removals.extract import untrained
from whorl.removals.substitute import Substitution
from whorl.settings import Count, Share, Whole

__all__ = ["Jacobian", "augmented"]

BLOCK = 500  # pictures per backward pass, a bound on memory


@dataclass(frozen=True)
class Jacobian(Substitution):
    """Begin with ``seeds`` pictures of the thief's own and augment them in ``rounds``.

    The queries are seeds * 2^min(rounds, doublings), then ``reservoir`` more for each further round (or as many as
    there are pictures, where these are fewer).

    Parameters:
        step: the paper's lambda, in units of [0, 1] pixels.
        reservoir: kappa, the pictures that a round moves once ``doublings`` (sigma) rounds have moved them all; 0 to
            go on doubling.
        period: tau, rounds after which the step changes its sign; 0 for never.
        round_epochs: epochs of training in each round; ``epochs`` is for the last one.
    """

    seeds: Count = 150
    rounds: Whole = 6
    step: Share = 0.1
    reservoir: Whole = 400
    doublings: Whole = 3
    period: Whole = 0
    round_epochs: Count = 10

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The substitute."""
        self.check(victim)
        if len(data) < self.seeds:
            raise UsageError(f"the thief holds {len(data)} pictures; give seeds={len(data)} or fewer, not {self.seeds}")
        own = data.subset(torch.randperm(len(data), generator=generator)[: self.seeds])
        inputs = own.inputs()
        initial = untrained(str(self.architecture), victim, own, generator)
        targets = self.ask(victim, inputs)
        for number in range(self.rounds):
            net = copy.deepcopy(initial)
            self.teach(net, inputs, targets, generator, epochs=self.round_epochs)
            chosen = torch.arange(len(inputs))
            if self.reservoir and number >= self.doublings:
                chosen = torch.randperm(len(inputs), generator=generator)[: self.reservoir]
            step = -self.step if self.period and (number // self.period) % 2 else self.step
            moved = augmented(net, inputs[chosen], targets[chosen].argmax(1), step)
            inputs, targets = torch.cat([inputs, moved]), torch.cat([targets, self.ask(victim, moved)])
        self.teach(initial, inputs, targets, generator)
        return initial


def augmented(net: nn.Module, inputs: Tensor, labels: Tensor, step: float) -> Tensor:
    """x + step sign(d log F_y(x) / dx), kept in [0, 1].

    Shape:
        inputs: ``[n, c, h, w]`` in [0, 1], and so is the result; labels: ``[n]``.
    """
    model = frozen(net)
    moved: list[Tensor] = []
    for points, classes in zip(inputs.split(BLOCK), labels.split(BLOCK), strict=True):
        points = points.detach().requires_grad_()
        likelihood = model(points).log_softmax(1).gather(1, classes[:, None]).sum()
        (slope,) = torch.autograd.grad(likelihood, points)
        moved.append((points.detach() + step * slope.sign()).clamp(0, 1))
    return torch.cat(moved)
