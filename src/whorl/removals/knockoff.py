"""Knockoff nets: extraction by queries about public pictures, drawn at random or where a bandit finds them worth it.

Paper: Orekondy, Schiele, Fritz, *Knockoff Nets: Stealing Functionality of Black-Box Models*, CVPR 2019,
arXiv 1812.02766, sections 4 and 5. The adaptive policy is the gradient bandit of Sutton & Barto (section 2.8) over the
classes of the pool; the rewards are the paper's: certainty of the victim, diversity of its answers, loss of the
knockoff. At the end the knockoff is trained from nothing on all answers, under either policy.

Changed: the policy is updated once for each ``block`` of queries, so that models are asked in batches (block=1 is the
paper's loop); classes are flat, without the paper's tree of coarse and fine ones; no picture is asked about twice; the
net starts from random weights, not from ImageNet's. The sign of the update for the classes not drawn is Sutton &
Barto's, and so is the mean as the baseline. The window, the rates and how rewards are rescaled are ours to choose.

Measured on digits: in a pool that is half digits and half textures the policy comes to draw digits four times in five,
as the rewards want, and yet the knockoff is no better than one from pictures drawn at random, and a little worse where
the pool is all digits: the rewards prefer some of the victim's classes to others. The paper reports fewer queries for
equal accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import torch
from annotated_types import Predicate, doc
from torch import Tensor, nn
from torch.nn.functional import pad

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.training import predict
from whorl.oracles.base import Oracle
from whorl.removals.extract import untrained
from whorl.removals.substitute import Substitution, public
from whorl.settings import Count, NonNegative, SourceName

__all__ = ["REWARDS", "Bandit", "Knockoff", "advantages", "rewards_of"]

REWARDS: Final = ("certainty", "diversity", "loss")
Rewards = Annotated[
    str,
    Predicate(lambda text: set(text.split("+")) <= set(REWARDS)),
    doc(f"{', '.join(REWARDS)}, or several of them joined by a plus"),
]
LEAST: Final = 1e-12


@dataclass(frozen=True)
class Knockoff(Substitution):
    """Ask about ``budget`` pictures of ``pool`` and train on the answers.

    Parameters:
        pool: expression of the public pictures; empty for the thief's own.
        policy: ``adaptive`` needs a pool with classes, each of which is an action.
        budget: queries in all.
        rewards: which of the three steer the policy, joined by a plus.
        block: queries between two updates of the policy.
        window: the Delta of the paper, how many answers back the baselines reach.
        policy_rate: the bandit's rate, divided by how often an action was taken.
    """

    pool: SourceName | Literal[""] = ""
    policy: Literal["random", "adaptive"] = "random"
    budget: Count = 400
    rewards: Rewards = "certainty+diversity+loss"
    block: Count = 10
    window: Count = 100
    policy_rate: NonNegative = 1.0

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The knockoff."""
        self.check(victim)
        pool = public(self.pool, data, victim, self.budget)
        net = untrained(str(self.architecture), victim, pool, generator)
        if self.policy == "adaptive":
            positions, targets = self._adaptive(victim, pool, generator)
        else:
            positions = torch.randperm(len(pool), generator=generator)[: self.budget]
            targets = self.ask(victim, pool.inputs(positions))
        self.teach(net, pool.inputs(positions), targets, generator)
        return net

    def _adaptive(self, victim: Oracle, pool: Dataset, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Positions ``[budget]`` in the pool that the bandit chose, and the answers ``[budget, classes]``."""
        if not pool.classes:
            raise UsageError(
                f"the adaptive policy draws classes; {self.pool or 'the data'} has none. Type policy=random"
            )
        kinds = [REWARDS.index(name) for name in self.rewards.split("+")]
        bandit = Bandit(pool.labels, len(pool.classes), self.policy_rate, generator)
        student = untrained(str(self.architecture), victim, pool, generator)
        chosen, answers = torch.empty(0, dtype=torch.int64), torch.empty(0, victim.classes)
        seen = torch.empty(0, victim.classes)
        for start in range(0, self.budget, self.block):
            positions = bandit.draw(min(self.block, self.budget - start))
            inputs = pool.inputs(positions)
            targets = self.ask(victim, inputs)
            chosen, answers = torch.cat([chosen, positions]), torch.cat([answers, targets])
            seen = torch.cat([seen, predict(student, inputs).softmax(1)])
            recent = slice(-2 * self.window - len(positions), None)  # a baseline of rewards, each with its baseline
            measured = rewards_of(answers[recent], seen[recent], self.window)[:, kinds]
            bandit.learn(advantages(measured[-self.window - len(positions) :], self.window)[-len(positions) :])
            self.teach(student, inputs, targets, generator, epochs=1, policy="constant")
        return chosen, answers


def rewards_of(answers: Tensor, predicted: Tensor, window: int) -> Tensor:
    """The three rewards ``[t, 3]`` of answers ``[t, classes]`` in order, with what the knockoff ``predicted`` of each.

    Certainty: the gap of the two likeliest classes. Diversity: sum over k of max(0, y_k - mean of y_k over the last
    ``window`` answers and this one). Loss: cross-entropy of the knockoff against the victim. Section 4.1.2.
    """
    best = answers.topk(2, dim=1).values
    diversity = (answers - _trailing(answers, window)).clamp_min(0).sum(1)
    loss = -(answers * predicted.clamp_min(LEAST).log()).sum(1)
    return torch.stack([best[:, 0] - best[:, 1], diversity, loss], 1)


def advantages(rewards: Tensor, window: int) -> Tensor:
    """``[t]``, the sum of rewards ``[t, m]``, each rescaled to [0, 1], less its mean over ``window`` and itself."""
    low, high = rewards.amin(0), rewards.amax(0)
    scaled = (rewards - low) / (high - low).clamp_min(LEAST)
    return (scaled - _trailing(scaled, window)).sum(1)


def _trailing(values: Tensor, window: int) -> Tensor:
    """Mean of each row ``[t, m]`` and of up to ``window`` rows before it."""
    sums = pad(values.double().cumsum(0), (0, 0, 1, 0))
    ends = torch.arange(1, len(values) + 1)
    starts = (ends - window - 1).clamp_min(0)
    return ((sums[ends] - sums[starts]) / (ends - starts)[:, None]).to(values.dtype)


@dataclass
class Bandit:
    """The gradient bandit: a preference for each action, whose softmax is the policy.

    An action is a class of the pool; its pictures come in random order, and it is closed when they are used up.

    Parameters:
        labels: ``[n]`` int64, the class of each picture of the pool.
    """

    labels: Tensor
    actions: int
    rate: float
    generator: torch.Generator
    preferences: Tensor = field(init=False)
    counts: Tensor = field(init=False)
    _queues: list[list[int]] = field(init=False)
    _drawn: list[int] = field(init=False)
    _drew: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.preferences, self.counts = torch.zeros(self.actions), torch.zeros(self.actions)
        order = torch.randperm(len(self.labels), generator=self.generator)
        self._queues = [order[self.labels[order] == action].tolist() for action in range(self.actions)]
        self._drawn, self._drew = [], self.policy

    @property
    def policy(self) -> Tensor:
        """The probability ``[actions]`` of each; those without pictures have none."""
        closed = torch.tensor([not queue for queue in self._queues])
        return self.preferences.masked_fill(closed, -torch.inf).softmax(0)

    def draw(self, count: int) -> Tensor:
        """Positions ``[count]`` of new pictures, each of an action drawn by the policy."""
        self._drew, self._drawn, positions = self.policy, [], []
        for _ in range(count):
            action = int(torch.multinomial(self.policy, 1, generator=self.generator))
            positions.append(self._queues[action].pop())
            self._drawn.append(action)
        return torch.tensor(positions)

    def learn(self, advantage: Tensor) -> None:
        """H(z) += a (1[z = drawn] - policy(z)) rate / N(drawn), a being the advantage ``[count]`` of each last draw."""
        for action, gain in zip(self._drawn, advantage.tolist(), strict=True):
            self.counts[action] += 1
            pull = -self._drew.clone()
            pull[action] += 1
            self.preferences += self.rate / self.counts[action] * gain * pull
