"""Adam on many pictures at once, each of which leaves the batch as soon as it is done.

Adam's moments are element-wise, so one large tensor is as many independent optimisers, and dropping a row is exact.
Without dropping, one straggler keeps the whole batch busy; with it the cost is the number of passes really needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from whorl.oracles.bounded import Bounded

__all__ = ["Adam", "Descent", "at_once", "descend", "in_blocks"]

BLOCK: Final = 1 << 25
"""Bytes of the inputs that are moved together, each of which is held in eight copies."""


def at_once(model: Callable[[Tensor], Tensor], inputs: Tensor) -> int:
    """How many of these inputs ``[n, ...]`` are moved together: as many as a `Bounded` model keeps in one part.

    More would be computed twice at every step, once for the value and once for the way back.
    """
    most = max(1, BLOCK // max(1, inputs[:1].nbytes))
    return min(most, model.rows(inputs)) if isinstance(model, Bounded) else most


def in_blocks(move: Callable[[slice], tuple[Tensor, ...]], count: int, most: int) -> tuple[Tensor, ...]:
    """What ``move`` gives for rows ``[0, count)``, ``most`` at a time, so that no more are held in many copies.

    Each part is written into its place, for the points of large inputs are as large as all else together.
    """
    whole: tuple[Tensor, ...] = ()
    for start in range(0, count, most):
        place = slice(start, min(start + most, count))
        part = move(place)
        if most >= count:
            return part
        whole = whole or tuple(each.new_empty(count, *each.shape[1:]) for each in part)
        for all_rows, rows in zip(whole, part, strict=True):
            all_rows[place] = rows
    return whole


class Adam:
    """Adam (Kingma & Ba, ICLR 2015) for the rows of one tensor, with its default moments."""

    def __init__(self, like: Tensor, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self.first = torch.zeros_like(like)
        self.second = torch.zeros_like(like)
        self.time = 0

    def step(self, gradient: Tensor) -> Tensor:
        """The change to subtract, of the gradient's shape."""
        self.time += 1
        self.first.lerp_(gradient, 0.1)
        self.second.lerp_(gradient.square(), 0.001)
        rate = self.learning_rate / (1 - 0.9**self.time)
        return rate * self.first / ((self.second / (1 - 0.999**self.time)).sqrt_().add_(1e-8))

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self.first, self.second = self.first[rows], self.second[rows]


@dataclass(frozen=True)
class Descent:
    """Where each row ended: its best point, the loss there, and how many forward-backward passes it took.

    Shape:
        points: ``[n, c, h, w]``; losses: ``[n]``; passes: ``[n]`` int64.
    """

    points: Tensor
    losses: Tensor
    passes: Tensor


def descend(
    start: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    learning_rate: float,
    iterations: int,
    patience: int = 0,
    enough: int = 0,
    most: int | None = None,
) -> Descent:
    """Minimise a non-negative loss per row within the box [0, 1]; a row stops when its loss is 0.

    More than ``most`` rows go in blocks, one after the other; rows end where they would together.

    Parameters:
        start: ``[n, c, h, w]`` in [0, 1].
        loss: (points ``[b, c, h, w]``, rows ``[b]``) to ``[b]``; row numbers say which of the n a point is.
        learning_rate: Adam's, in units of [0, 1] pixels.
        iterations: most steps.
        patience: a row also stops after this many steps without a better loss; 0 never.
        enough: all stop once this many rows have loss 0; 0 for all. Of several blocks the first are asked first.
        most: rows of a block (`at_once`); None for all.
    """
    done = 0

    def move(place: slice) -> tuple[Tensor, Tensor, Tensor]:
        nonlocal done
        rows = torch.arange(len(start), device=start.device)[place]
        end = _descended(
            start[place],
            lambda points, at: loss(points, rows[at]),
            learning_rate=learning_rate,
            iterations=0 if enough and done >= enough else iterations,
            patience=patience,
            enough=max(0, enough - done),
        )
        done += int((end.losses == 0).sum())
        return end.points, end.losses, end.passes

    return Descent(*in_blocks(move, len(start), most or len(start)))


def _descended(
    start: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    learning_rate: float,
    iterations: int,
    patience: int,
    enough: int,
) -> Descent:
    """The descent of one block, as `descend` says."""
    rows = torch.arange(len(start), device=start.device)
    # The nets run channels last; points in another layout would be copied at every pass.
    point = start.contiguous(memory_format=torch.channels_last).clone()
    best = Descent(point.clone(), torch.full_like(rows, torch.inf, dtype=start.dtype), torch.zeros_like(rows))
    best_at = torch.zeros_like(rows)
    adam = Adam(point, learning_rate)
    for step in range(iterations):
        point.requires_grad_()
        values = loss(point, rows)
        (slope,) = torch.autograd.grad(values.sum(), point)
        point, values = point.detach(), values.detach()
        best.passes[rows] += 1
        better = values < best.losses[rows]
        improved = rows[better]
        best.points[improved], best.losses[improved], best_at[improved] = point[better], values[better], step
        going = values > 0
        if patience:
            going &= step - best_at[rows] < patience
        if not going.any() or (enough and int((best.losses == 0).sum()) >= enough):
            break
        if not going.all():
            rows, point, slope = rows[going], point[going], slope[going]
            adam.keep(going)
        point = (point - adam.step(slope)).clamp_(0, 1)
    return best
