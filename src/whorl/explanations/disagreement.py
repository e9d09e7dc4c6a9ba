"""Where two classifiers disagree: how often, between which classes, and how near to ordinary inputs.

The rate is that of declared inputs, with an exact interval and evidence that may be watched while inputs are drawn.
The nearest disagreements are searched for from each input on which the models agree. By gradients of both: the
difference of their log-probabilities of the common label is climbed, then the way there is halved. Or by labels alone:
between two inputs of different labels each model changes its mind somewhere, and between both places they disagree.

Source: differential testing of nets, Pei et al., *DeepXplore*, SOSP 2017, which keeps what covers neurons; here what is
near is kept, of each pair of classes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from whorl.data.base import Dataset
from whorl.detection.rates import log_rate_evidence
from whorl.errors import UsageError
from whorl.metrics import Interval, clopper_pearson
from whorl.oracles.base import Oracle
from whorl.oracles.torch import TorchOracle
from whorl.settings import Checked, Count, Positive
from whorl.spaces import Pictures
from whorl.types import Access

__all__ = ["Disagreement", "Found", "Rate", "Search", "disagree"]

TIE: Final = 1e-4  # of log-probabilities: nearer than this two labels are told apart by rounding
HALVINGS: Final = 20


@dataclass(frozen=True)
class Rate:
    """How often the models disagree on the declared inputs.

    ``interval`` is Clopper and Pearson's at 95 %. ``p_value`` is anytime-valid, of a rate of at most ``most``: 1 over
    the largest of the e-process. ``needed`` says after how many inputs it first fell to alpha (None: never).
    """

    differing: int
    asked: int
    interval: Interval
    most: float
    p_value: float
    needed: int | None


@dataclass(frozen=True)
class Found:
    """Disagreements that were searched for, nearest first.

    Shape:
        points, seeds: ``[k, c, h, w]``; distances ``[k]`` between both, L2; first, second: ``[k]`` the models' labels.
    """

    points: Tensor
    seeds: Tensor
    distances: Tensor
    first: Tensor
    second: Tensor

    def __len__(self) -> int:
        return len(self.points)

    def by_pair(self) -> Found:
        """The nearest of each (first label, second label)."""
        pairs = list(zip(self.first.tolist(), self.second.tolist(), strict=True))
        return self._at(torch.tensor([pairs.index(pair) for pair in dict.fromkeys(pairs)], dtype=torch.long))

    def data(self, classes: tuple[str, ...]) -> Dataset:
        """The points with the first model's labels, as `whorl.explanations.explain` takes them."""
        return Dataset(self.points, self.first, classes, "disagreements")

    def _at(self, index: Tensor) -> Found:
        return Found(*(value[index] for value in vars(self).values()))


@dataclass(frozen=True)
class Disagreement:
    """``pairs`` counts (first label, second label) on the declared inputs; ``searched`` inputs were searched from.

    ``by`` says how: gradients of both models, or labels alone.
    """

    rate: Rate
    pairs: Mapping[tuple[int, int], int]
    found: Found
    searched: int
    by: str


@dataclass(frozen=True, kw_only=True)
class Search(Checked):
    """How long to search. ``step`` is in L2 of the input, ``steps`` how many of them are made from an input.

    ``most`` is the rate to refute, ``alpha`` at which level; ``inputs`` how many inputs are searched from.
    """

    steps: Count = 60
    step: Positive = 0.05
    inputs: Count = 200
    most: Annotated[float, Gt(0), Lt(1)] = 0.01
    alpha: Annotated[float, Gt(0), Lt(1)] = 0.05


def disagree(
    first: Oracle, second: Oracle, data: Dataset, *, generator: torch.Generator, search: Search | None = None
) -> Disagreement:
    """Where two classifiers disagree.

    Parameters:
        data: inputs drawn from what the rate is to be of; they are asked in an order that ``generator`` draws.

    Raises:
        UsageError: the models do not take these data, are no classifiers, or have other classes than each other.
    """
    search = search or Search()
    for model in (first, second):
        if model.task != "classification" or not isinstance(model.space, Pictures):
            raise UsageError(f"disagreements are of classifiers of pictures or rows; {model.name} is another model")
        data.check_takes(model.name, model.space)
    if first.classes != second.classes:
        raise UsageError(f"{first.name} has {first.classes} classes and {second.name} {second.classes}: give two alike")
    inputs = data.inputs(torch.randperm(len(data), generator=generator))
    one, other = first.labels(inputs), second.labels(inputs)
    pairs = Counter(zip(one[one != other].tolist(), other[one != other].tolist(), strict=True))
    seeds = inputs[one == other][: search.inputs]
    labels = one[one == other][: search.inputs]
    white = all(isinstance(each, TorchOracle) and each.access >= Access.GRADIENTS for each in (first, second))
    climb = _by_gradient if white else _by_label
    found = climb(first, second, seeds, labels, search) if len(seeds) else _nothing(inputs)
    return Disagreement(
        rate=_rate(one != other, search),
        pairs=dict(sorted(pairs.items())),
        found=found,
        searched=len(seeds),
        by="gradients" if white else "labels",
    )


def _rate(differ: Tensor, search: Search) -> Rate:
    path = log_rate_evidence(differ.numpy(), search.most)
    refuted = (path >= -math.log(search.alpha)).nonzero()[0]
    count = int(differ.sum())
    return Rate(
        differing=count,
        asked=len(differ),
        interval=clopper_pearson(count, len(differ)),
        most=search.most,
        p_value=float(min(1.0, math.exp(-max(0.0, float(path.max(initial=0.0)))))),
        needed=int(refuted[0]) + 1 if len(refuted) else None,
    )


def _by_gradient(first: Oracle, second: Oracle, seeds: Tensor, labels: Tensor, search: Search) -> Found:
    """Climb what the one model says more surely than the other, either way round, and keep the nearer."""
    nets = [_log_probabilities(each) for each in (first, second)]
    ends, reached = seeds.clone(), torch.full((len(seeds),), math.inf)
    for one, other in (nets, nets[::-1]):
        met, points = _climbed(one, other, seeds, labels, search)
        near = _halved(lambda at: _differ(nets, at), seeds[met], points)
        lengths = (near - seeds[met]).flatten(1).norm(dim=1)
        nearer = lengths < reached[met]
        kept = met[nearer]
        ends[kept], reached[kept] = near[nearer], lengths[nearer]
    kept = reached.isfinite().nonzero().flatten()
    return _sorted(first, second, seeds[kept], ends[kept])


def _climbed(
    one: Callable[[Tensor], Tensor],
    other: Callable[[Tensor], Tensor],
    seeds: Tensor,
    labels: Tensor,
    search: Search,
) -> tuple[Tensor, Tensor]:
    """Positions of the seeds from which a disagreement was met, and where."""
    here, going = seeds.clone(), torch.arange(len(seeds))
    met, points = [going[:0]], [seeds[:0]]
    for _ in range(search.steps):
        if not len(going):
            break
        at = here[going].requires_grad_()
        rows = torch.arange(len(going))
        gain = one(at)[rows, labels[going]] - other(at)[rows, labels[going]]
        (gradient,) = torch.autograd.grad(gain.sum(), at)
        lengths = gradient.flatten(1).norm(dim=1).clamp_min(1e-20)[:, None, None, None]
        here[going] = (at.detach() + search.step * gradient / lengths).clamp(0, 1)
        crossed = _differ((one, other), here[going])
        met.append(going[crossed])
        points.append(here[going[crossed]])
        going = going[~crossed]
    return torch.cat(met), torch.cat(points)


def _by_label(first: Oracle, second: Oracle, seeds: Tensor, labels: Tensor, search: Search) -> Found:
    """Between each seed and the nearest seed of another label: where does each model stop saying the seed's label?"""
    del search
    apart = torch.cdist(seeds.flatten(1), seeds.flatten(1)).masked_fill(labels[:, None] == labels, math.inf)
    near, partner = apart.min(1)
    kept = near.isfinite().nonzero().flatten()
    starts, ends, own = seeds[kept], seeds[partner[kept]], labels[kept]
    turns = [_turn(model, starts, ends, own) for model in (first, second)]
    low, high = torch.minimum(*turns), torch.maximum(*turns)
    at = (low + 0.1 * (high - low))[:, None, None, None]
    points = torch.lerp(starts, ends, at)
    differ = (high > low) & (first.labels(points) != second.labels(points))
    return _sorted(first, second, starts[differ], points[differ])


def _turn(model: Oracle, starts: Tensor, ends: Tensor, labels: Tensor) -> Tensor:
    """The share ``[n]`` of the way at which a model is found to leave a label."""
    low, high = torch.zeros(len(starts)), torch.ones(len(starts))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        left = model.labels(torch.lerp(starts, ends, middle[:, None, None, None])) != labels
        low, high = torch.where(left, low, middle), torch.where(left, middle, high)
    return high


def _halved(differ: Callable[[Tensor], Tensor], starts: Tensor, ends: Tensor) -> Tensor:
    """The nearest disagreement that halving the way from a start meets."""
    low, high = torch.zeros(len(starts), 1, 1, 1), torch.ones(len(starts), 1, 1, 1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        met = differ(torch.lerp(starts, ends, middle))[:, None, None, None]
        low, high = torch.where(met, low, middle), torch.where(met, middle, high)
    return torch.lerp(starts, ends, high)


@torch.no_grad()
def _differ(nets: tuple[Callable[[Tensor], Tensor], ...] | list[Callable[[Tensor], Tensor]], at: Tensor) -> Tensor:
    """Whether labels differ ``[n]`` by more than a tie in both models."""
    one, other = (net(at) for net in nets)
    rows = torch.arange(len(at))
    labels = one.argmax(1), other.argmax(1)
    sure = [
        scores[rows, mine] - scores[rows, theirs] > TIE
        for scores, mine, theirs in ((one, *labels), (other, *labels[::-1]))
    ]
    return (labels[0] != labels[1]) & sure[0] & sure[1]


def _log_probabilities(model: Oracle) -> Callable[[Tensor], Tensor]:
    assert isinstance(model, TorchOracle)
    logits, device = model.differentiable(), model.device
    return lambda at: logits(at.to(device)).log_softmax(1).cpu()


def _sorted(first: Oracle, second: Oracle, seeds: Tensor, points: Tensor) -> Found:
    distances = (points - seeds).flatten(1).norm(dim=1)
    order = distances.argsort(stable=True)
    points, seeds = points[order], seeds[order]
    one, other = (model.labels(points) if len(points) else torch.zeros(0).long() for model in (first, second))
    return Found(points, seeds, distances[order], one, other)._at((one != other).nonzero().flatten())


def _nothing(inputs: Tensor) -> Found:
    none = torch.zeros(0, dtype=torch.long)
    return Found(inputs[:0], inputs[:0], torch.zeros(0), none, none)
