"""DeepFool: the smallest change that takes a picture across the nearest boundary of a multi-class net.

Paper: Moosavi-Dezfooli, Fawzi, Frossard, *DeepFool: a simple and accurate method to fool deep neural networks*,
CVPR 2016, arXiv 1511.04599, algorithm 2. At each step the net is replaced by its tangent, whose nearest boundary is
known in closed form. Pictures and candidate classes go in one batch; who has crossed leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.base import Sampler, draw, gradient_of
from whorl.settings import Count, NonNegative
from whorl.types import Access, Queries

__all__ = ["Crossing", "DeepFoolPoints", "deepfool"]

CROSS = 0.02  # the paper's eta while it searches: the tangent's boundary itself is never reached, only approached
NUDGE = 1e-4  # added to each step's length by the authors' code, against steps that shrink to nothing
LEAST = 1e-12
BLOCK = 32  # points per backward pass: times the classes, it fills a batch and bounds the memory


@dataclass(frozen=True)
class Crossing:
    """Where each picture crosses the boundary.

    Shape:
        changes: ``[n, c, h, w]``, the sum r of the paper's steps, within the box; ``points`` goes past it.
        source, target: ``[n]``, the class that each picture leaves and the one it enters (the same if none).
        crossed: ``[n]`` bool. passes: ``[n]`` int64, forward-backward passes, one per step and other class.
    """

    inputs: Tensor
    changes: Tensor
    source: Tensor
    target: Tensor
    crossed: Tensor
    passes: Tensor

    @property
    def lengths(self) -> Tensor:
        """L2 norms ``[n]`` of the changes, an upper bound of each picture's distance to the boundary."""
        return self.changes.flatten(1).norm(dim=1)

    def points(self, overshoot: float | Tensor = CROSS) -> Tensor:
        """x + (1 + eta) r in [0, 1], for one eta or one per picture (``[n, 1, 1, 1]``)."""
        return (self.inputs + (1 + overshoot) * self.changes).clamp(0, 1)


def deepfool(
    model: Callable[[Tensor], Tensor], inputs: Tensor, *, candidates: int = 10, iterations: int = 50
) -> Crossing:
    """Minimal L2 perturbations by algorithm 2 of the paper, in the box [0, 1].

    Parameters:
        model: differentiable, ``[n, c, h, w]`` to logits; its own weights should need no gradient.
        inputs: ``[n, c, h, w]`` in [0, 1].
        candidates: how many of the classes that score highest at the start are tried, the picture's own included.
        iterations: most steps; pictures that have not crossed by then are marked.

    Raises:
        UsageError: there are fewer than two classes to choose from.
    """
    with torch.no_grad():
        logits = model(inputs)
    if min(candidates, logits.shape[1]) < 2:
        raise UsageError(f"DeepFool needs two classes; {candidates} of {logits.shape[1]} are to be tried")
    classes = logits.topk(min(candidates, logits.shape[1])).indices
    # The nets run channels last; points in another layout would be copied at every pass.
    origin = inputs.detach().contiguous(memory_format=torch.channels_last)
    changes, target = torch.zeros_like(origin), classes[:, 0].clone()
    rows = torch.arange(len(origin), device=origin.device)
    passes = torch.zeros_like(rows)
    point = origin
    for _ in range(iterations):
        blocks = zip(point.split(BLOCK), classes[rows].split(BLOCK), strict=True)
        step = torch.cat([_nearest(*_tangent(model, *block)) for block in blocks])
        passes[rows] += classes.shape[1] - 1
        before = point
        point = (origin[rows] + (1 + CROSS) * (changes[rows] + step)).clamp_(0, 1)
        changes[rows] = (point - origin[rows]) / (1 + CROSS)
        with torch.no_grad():
            target[rows] = model(point).argmax(1)
        # A picture that does not move any more, for want of a gradient or of room in the box, never will.
        going = (target[rows] == classes[rows, 0]) & (point != before).flatten(1).any(1)
        rows, point = rows[going], point[going]
        if not len(rows):
            break
    return Crossing(origin, changes, classes[:, 0], target, target != classes[:, 0], passes)


def _tangent(model: Callable[[Tensor], Tensor], point: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """f_k = Z_k - Z_i ``[k - 1, n]`` for the other classes of each row, and w_k, their slopes ``[k - 1, n, c, h, w]``.

    One forward pass, and one backward pass that is vectorised over the classes where the net's layers allow it.
    """
    point = point.detach().requires_grad_()
    chosen = model(point).gather(1, classes)
    gaps = (chosen[:, 1:] - chosen[:, :1]).T
    each = torch.eye(len(gaps), device=gaps.device, dtype=gaps.dtype)[:, :, None].expand(-1, -1, len(point))
    try:
        (slopes,) = torch.autograd.grad(gaps, point, each, is_grads_batched=True, retain_graph=True)
    except RuntimeError:  # layers whose gradient torch cannot vectorise, such as group norms of pictures channels last
        slopes = torch.stack([torch.autograd.grad(gap.sum(), point, retain_graph=True)[0] for gap in gaps])
    return gaps.detach(), slopes


def _nearest(gaps: Tensor, slopes: Tensor) -> Tensor:
    """The shortest step onto a boundary of the tangent: |f_l| / |w_l|^2 w_l with l = argmin |f_k| / |w_k|."""
    norms = slopes.flatten(2).norm(dim=2).clamp_min(LEAST)
    distances, nearest = (gaps.abs() / norms).min(0)
    columns = torch.arange(slopes.shape[1], device=slopes.device)
    lengths = (distances + NUDGE) / norms[nearest, columns]
    return lengths[:, None, None, None] * slopes[nearest, columns]


@dataclass(frozen=True, kw_only=True)
class DeepFoolPoints(Sampler):
    """Pictures moved across their nearest boundary and ``overshoot`` beyond.

    Parameters:
        overshoot: the paper's eta: points are x + (1 + eta) r, with r the minimal change. Its .02 is the least that
            numbers allow; a fingerprint needs room for the boundary to move.
        candidates: how many of the likeliest classes are tried.
        iterations: most steps.
    """

    needs_victim: ClassVar[Access] = Access.GRADIENTS
    part: ClassVar[str] = "victim"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/seeds": Layout("n *input", "input"),
        "companions/source": Layout("n", "int64", 0, "k"),
        "companions/target": Layout("n", "int64", 0, "k"),
        "companions/distance": Layout("n", low=0),
    }

    overshoot: NonNegative = 0.5
    candidates: Annotated[int, Ge(2)] = 10
    iterations: Count = 50

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Points with their seeds, the classes on both sides, and whether the boundary was reached."""
        seeds = data.inputs(draw(data, budget, generator))
        device = getattr(victim, "device", seeds.device)
        settings = {"candidates": self.candidates, "iterations": self.iterations}
        end = deepfool(gradient_of(victim), seeds.to(device), **settings)
        companions = {
            "seeds": seeds,
            "source": end.source.cpu(),
            "target": end.target.cpu(),
            "distance": end.lengths.cpu(),
        }
        notes = {"converged": float(end.crossed.float().mean()), "passes": int(end.passes.sum())}
        return Queries(end.points(self.overshoot).cpu(), companions, notes)
