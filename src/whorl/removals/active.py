"""Active extraction: each round asks about the pictures of a public pool that the substitute has most to learn from.

Papers: Pal, Gupta, Shukla, Kanade, Shevade, Ganapathy, *ActiveThief*, AAAI 2020 (with arXiv 1905.09165); k-centre
after Sener & Savarese, ICLR 2018; DeepFool selection (DFAL) after Ducoffe & Precioso, arXiv 1802.09841. A first share
of the budget is spent at random; each round trains the substitute anew on all answers, and picks the next pictures.

Changed: no part of the budget goes to a validation set for early stopping; training has a fixed length. The first
share, the number of rounds and the pictures that DeepFool looks at are options, since the papers' are for 10,000
queries or more.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.training import predict
from whorl.oracles.base import Oracle
from whorl.oracles.torch import frozen
from whorl.queries.deepfool import deepfool
from whorl.removals.extract import untrained
from whorl.removals.substitute import Substitution, public
from whorl.settings import Count, Probability, SourceName

__all__ = ["Active", "farthest", "shares"]

Strategy = Literal["uncertainty", "k-centre", "deepfool", "deepfool-k-centre", "random"]


@dataclass(frozen=True)
class Active(Substitution):
    """Spend ``budget`` queries on pictures of ``pool``, chosen in ``rounds`` by ``strategy``.

    Parameters:
        pool: expression of the public pictures; empty for the thief's own.
        strategy: ``uncertainty``: largest entropy of the substitute; ``k-centre``: farthest from all that were asked
            in the substitute's probabilities; ``deepfool``: nearest to its boundary; ``deepfool-k-centre``: k-centre
            among the nearest, as many as the whole budget; ``random``: the baseline.
        budget: queries in all.
        first: share of the budget that is spent at random before the first round.
        candidates: pictures that DeepFool looks at in a round, drawn at random; it is the dear strategy.
    """

    pool: SourceName | Literal[""] = ""
    strategy: Strategy = "uncertainty"
    budget: Count = 200
    rounds: Count = 5
    first: Probability = 0.2
    candidates: Count = 1000

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The substitute."""
        self.check(victim)
        counts = shares(self.budget, self.rounds, self.first)
        pool = public(self.pool, data, victim, self.budget)
        inputs = pool.inputs()
        initial = untrained(str(self.architecture), victim, pool, generator)
        asked = torch.randperm(len(inputs), generator=generator)[: counts[0]]
        targets = self.ask(victim, inputs[asked])
        for count in counts[1:]:
            net = copy.deepcopy(initial)
            self.teach(net, inputs[asked], targets, generator)
            chosen = self.choose(net, inputs, asked, count, generator)
            asked = torch.cat([asked, chosen])
            targets = torch.cat([targets, self.ask(victim, inputs[chosen])])
        self.teach(initial, inputs[asked], targets, generator)
        return initial

    def choose(self, net: nn.Module, inputs: Tensor, asked: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Positions ``[count]`` of pictures that were not asked about yet."""
        fresh = torch.ones(len(inputs), dtype=torch.bool)
        fresh[asked] = False
        rest = fresh.nonzero().flatten()
        rest = rest[torch.randperm(len(rest), generator=generator)]  # whatever is tied, is tied at random
        if self.strategy == "random":
            return rest[:count]
        if self.strategy.startswith("deepfool"):
            rest = rest[: max(count, self.candidates)]
            distances = deepfool(frozen(net), inputs[rest]).lengths
            nearest = count if self.strategy == "deepfool" else max(count, self.budget)
            rest = rest[distances.argsort(stable=True)[:nearest]]
            if self.strategy == "deepfool":
                return rest
        probabilities = predict(net, inputs).softmax(1)
        if self.strategy == "uncertainty":
            entropy = torch.special.entr(probabilities[rest]).sum(1)
            return rest[entropy.argsort(descending=True, stable=True)[:count]]
        return rest[farthest(probabilities[rest], probabilities[asked], count)]


def shares(budget: int, rounds: int, first: float) -> list[int]:
    """Queries of the random start and of each round, which sum to ``budget``.

    Raises `UsageError` unless each of them is at least one.
    """
    start = round(first * budget) if 0 < first < 1 else 0
    each = [(budget - start) * (number + 1) // rounds - (budget - start) * number // rounds for number in range(rounds)]
    if min(start, *each, 1) < 1:
        raise UsageError(
            f"a budget of {budget} queries is too small for {rounds} rounds after a share of {first} at random"
        )
    return [start, *each]


def farthest(points: Tensor, centres: Tensor, count: int) -> Tensor:
    """Greedy k-centre: the positions ``[count]`` that one after the other are farthest from all centres so far.

    Shape:
        points: ``[n, d]``, at least ``count``; centres: ``[m, d]``, at least one.
    """
    distance = torch.cdist(points, centres).amin(1)
    chosen = torch.empty(count, dtype=torch.int64)
    for number in range(count):
        chosen[number] = distance.argmax()
        new = points[chosen[number]]
        distance = torch.minimum(distance, (points - new).norm(dim=1))
        distance[chosen[number]] = -1  # equal points lie at 0, and none is taken twice
    return chosen
