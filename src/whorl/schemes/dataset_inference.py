"""Dataset inference: the victim's training pictures lie further from a copy's boundary than other pictures do.

Paper: Maini, Yaghini, Papernot, *Dataset Inference: Ownership Resolution in Machine Learning*, arXiv 2104.10706.

Queries: pictures that trained the victim and pictures that did not; for Blind Walk with straight walks of noise from
each. Representation: distances to the boundary, made one score by a regressor that knew the victim.
Similarity: Welch's t of public scores over private ones. Access to both: labels (Blind Walk) or gradients (MinGD).

Changed from the paper: one t-test over all held-out pictures; the harmonic mean of many resampled p-values, which its
notebook reports, is no p-value. Even that one p-value (scipy's ``ttest_ind`` on the scores) is a diagnostic: its null
is a suspect that learned neither kind, and the verdict ranks t among independent models instead. Walks grow
geometrically and there are fewer of them (3 a law and 8 steps for 10 and 50), since each step is a query. MinGD takes
50 steps of ten times the length. The regressor's one hidden layer has ReLUs (UNVERIFIED).

It measures the use of data, not lineage. On nets that overfit, independent models trained on the victim's own
pictures score as high as the victim (t of 9 to 19 on 150 pictures), above every copy; fine-tuned copies come next (6
to 8), then students of a thief who has those pictures (2 to 3), and extracted models last (-1 to 2), of which most
lie above models of other pictures (-2 to 2; AUC .83, where IPGuard has .18). On nets that do not overfit (the digits
of the small zoo, accuracy .99 on training pictures and .97 on others) nothing is told apart, the victim itself
included. So the null must hold models of the owner's own data; where only the owner can have had those data, t
answers whether the suspect's maker had them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.base import gradient_of
from whorl.queries.descent import at_once, in_blocks
from whorl.queries.walks import Members, regress, walks
from whorl.representations.base import ask
from whorl.schemes.base import Purpose, Scheme
from whorl.settings import Count, Positive
from whorl.types import Access, Evidence, Queries, Representation

__all__ = ["BlindWalk", "MinGD", "first_flips", "welch"]

PAPER = "Maini, Yaghini, Papernot, ICLR 2021, arXiv 2104.10706"
BLIND = "lineage: an independent model that learned from the same pictures scores as a copy does"
Norm = Literal["linf", "l2", "l1"]
ORDERS: dict[Norm, float] = {"linf": torch.inf, "l2": 2.0, "l1": 1.0}


class _Inference(Members, Scheme):
    """What both variants share: scores of a regressor, and one t-test."""

    purpose: ClassVar[Purpose] = "data"
    per_query: ClassVar[bool] = False
    values: ClassVar[Layout] = Layout("n 2")

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """The regressor's score of each picture, and whether it is public: ``[n, 2]`` float32."""
        truth, public = queries.companions["truth"], queries.companions["public"]
        score = regress(queries.shared, self.distances(oracle, queries.inputs, truth))
        return Representation(torch.stack([score, public.float()], 1))

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """Welch's t, public over private; the victim's own scores are not compared with."""
        del reference
        score, public = observed.values.double().unbind(1)
        return Evidence(welch(score[public > 0], score[public == 0]))


@dataclass(frozen=True, kw_only=True)
class BlindWalk(_Inference):
    """Steps of a walk until the label is no longer the true one.

    Parameters:
        directions: walks of each of three laws of noise (`whorl.queries.walks.walks`).
        steps: magnitudes along a walk.
        reach: the largest magnitude, in units of the first.
    """

    name: ClassVar[str] = "dataset-inference"
    paper: ClassVar[str] = PAPER
    idea: ClassVar[str] = "Noise needed to change labels: more around the victim's training pictures than elsewhere."
    blind: ClassVar[str] = BLIND
    needs_victim: ClassVar[Access] = Access.LABELS
    needs_suspect: ClassVar[Access] = Access.LABELS
    tensors: ClassVar[Mapping[str, Layout]] = {**Members.tensors, "inputs": Layout("n walked *input", "input")}

    directions: Count = 3
    steps: Annotated[int, Ge(2)] = 8
    reach: Annotated[float, Gt(1)] = 100.0

    @property
    def sizes(self) -> dict[str, int]:
        """Walks of three laws after the picture itself, and a feature for each."""
        walks = 3 * self.directions
        return {**super().sizes, "walked": 1 + walks * self.steps, "features": walks}

    def starts(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        """Walks ``[n, m, c, h, w]``, each picture first."""
        return walks(pictures, self.directions, self.steps, self.reach, generator)

    def distances(self, oracle: Oracle, inputs: Tensor, truth: Tensor) -> Tensor:
        """Steps walked with the true label ``[n, 3 * directions]``; 0 where the picture itself is misread."""
        right = ask(oracle.labels, inputs, oracle.space) == truth[:, None]
        return first_flips(right[:, 1:].unflatten(1, (-1, self.steps)), right[:, 0])


@dataclass(frozen=True, kw_only=True)
class MinGD(_Inference):
    """Length of a plain descent into other classes, in three norms.

    Parameters:
        targets: how many other classes to descend into, those that the model finds most likely.
        iterations: most steps.
        linf, l2, l1: length of one step in each norm, in units of [0, 1] pixels.
        sparsity: how many pixels a step in the norm l1 changes.
    """

    name: ClassVar[str] = "dataset-inference-white-box"
    paper: ClassVar[str] = PAPER
    idea: ClassVar[str] = "Distance to other classes: larger for the victim's training pictures than for others."
    blind: ClassVar[str] = BLIND
    needs_victim: ClassVar[Access] = Access.GRADIENTS
    needs_suspect: ClassVar[Access] = Access.GRADIENTS

    targets: Count = 9
    iterations: Count = 50
    linf: Positive = 0.01
    l2: Positive = 0.1
    l1: Positive = 1.0
    sparsity: Count = 100

    def starts(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        """The pictures as they are."""
        del generator
        return pictures

    def distances(self, oracle: Oracle, inputs: Tensor, truth: Tensor) -> Tensor:
        """Lengths ``[n, 3 * targets]``, sorted within each norm; 0 where the picture itself is misread."""
        logits = oracle.logits(inputs)
        count = min(self.targets, logits.shape[1] - 1)
        goals = logits.scatter(1, truth[:, None], -torch.inf).topk(count).indices
        model, device = gradient_of(oracle), getattr(oracle, "device", inputs.device)

        def move(place: slice) -> tuple[Tensor, ...]:
            pictures = torch.arange(place.start, place.stop) // count  # each descends into so many classes
            rows, aims = inputs[pictures].to(device), goals.flatten()[place].to(device)
            return tuple(self._descend(model, rows, aims, norm).cpu() for norm in ORDERS)

        lengths = in_blocks(move, goals.numel(), at_once(model, inputs))
        sorted_ = [length.unflatten(0, goals.shape).sort(1).values for length in lengths]
        return torch.cat(sorted_, 1) * (logits.argmax(1) == truth)[:, None]

    def _descend(self, model: Callable[[Tensor], Tensor], origin: Tensor, goal: Tensor, norm: Norm) -> Tensor:
        """How far ``[n]`` each picture had to go to be called ``goal``; the whole way where it never was."""
        point, rows = origin.clone(), torch.arange(len(origin), device=origin.device)
        length = torch.zeros(len(origin), device=origin.device)
        for _ in range(self.iterations):
            point.requires_grad_()
            logits = model(point)
            going = logits.argmax(1) != goal[rows]
            loss = logits.log_softmax(1).gather(1, goal[rows, None])
            (slope,) = torch.autograd.grad(loss.sum(), point)
            if not going.any():
                break
            rows, slope = rows[going], slope[going]
            point = (point.detach()[going] + self._step(slope, norm)).clamp(0, 1)
            length[rows] = (point - origin[rows]).flatten(1).norm(ORDERS[norm], 1)
        return length

    def _step(self, slope: Tensor, norm: Norm) -> Tensor:
        if norm == "linf":
            return self.linf * slope.sign()
        flat = slope.flatten(1)
        if norm == "l2":
            return self.l2 * (flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-12)).view_as(slope)
        count = min(self.sparsity, flat.shape[1])
        largest = flat.abs().topk(count, 1).indices
        sparse = torch.zeros_like(flat).scatter(1, largest, flat.gather(1, largest).sign())
        return self.l1 / count * sparse.view_as(slope)


def first_flips(right: Tensor, at_start: Tensor) -> Tensor:
    """Leading steps that kept the label, float32.

    Shape:
        right: ``[n, walks, steps]``, at_start: ``[n]`` bool. Returns ``[n, walks]`` in 0..steps; 0 without a start.
    """
    return right.long().cumprod(2).sum(2).float() * at_start[:, None]


def welch(above: Tensor, below: Tensor) -> float:
    """Welch's t of two samples ``[m]`` and ``[n]``, positive where the first is larger (Biometrika 34, 1947).

    Scores end in a tanh, so a spread under 1e-6 is rounding: it is what two constant samples are given.
    """
    error = (above.var() / len(above) + below.var() / len(below)).sqrt().clamp_min(1e-6)
    return float((above.mean() - below.mean()) / error)
