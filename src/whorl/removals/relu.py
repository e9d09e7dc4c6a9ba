"""Functionally equivalent extraction of a net with one hidden ReLU layer, from its logits and nothing else.

Paper: Jagielski, Carlini, Berthelot, Kurakin & Papernot, *High Accuracy and High Fidelity Extraction of Neural
Networks*, USENIX Security 2020, section 6. Such a net is affine between the hyperplanes on which its units switch. So
the thief (1) finds the knots of the logits on random lines, (2) takes from each the row of the unit that switches
there, (3) recovers the signs, and (4) the last layer by least squares.

Changed from the paper:

- A row comes from the turn of the gradient between both sides of a knot, instead of second differences along each
  axis: all outputs take part, relative signs come along, and the fit tells when another hyperplane is too near.
- Signs. As relu(z) = (|z| + z) / 2, the net is sum_k C_k |r_k x + s_k| + L x + c whatever the signs are. That is fitted
  by least squares, and the signs follow from L = sum_k sign_k r_k C_k^T by another.
- What of L the found units do not explain goes to spare units, always on, in place of units that were not found.
- At the end all weights are refined against the answers of step 4, since answers in float32 leave errors of 1e-2.

The lines run far outside [0, 1], since some units switch only there: an interface that clips its inputs stops the
attack. One that rounds logits to 3 decimals hardly does (``noise=1e-4``), to 2 it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.linalg import inv, qr, svd

from whorl.data.base import Dataset
from whorl.errors import BudgetExhausted, UsageError
from whorl.nets.plain import MLP
from whorl.nets.training import build
from whorl.oracles.base import Oracle
from whorl.oracles.wrappers import Budgeted
from whorl.removals.base import Removal
from whorl.removals.knots import Ask, asking, find_hyperplane, find_knots, held, least_squares
from whorl.settings import Count, NonNegative, Positive
from whorl.types import Access

__all__ = ["RecoverRelu"]

Units = tuple[Tensor, Tensor]  # rows [k, d] and offsets [k] in float64: unit k switches where row x + offset = 0
PURE = 0.1  # impurity of a hyperplane that counts
KNOWN = 1e-3  # a knot so near to a known hyperplane, in shares of its distance, is of that unit
SAME = 0.98  # cosine of two rows of one unit, if their offsets are alike too


@dataclass(frozen=True)
class RecoverRelu(Removal):
    """The ``mlp(width=width)`` that answers as the victim does, where the victim is one of at most that width.

    Of any other victim it is a fit with ``width`` of the hyperplanes found. The thief uses no data.

    Parameters:
        width: hidden units, as many as the victim has or more.
        lines: random lines that are searched for knots; each meets every hyperplane.
        reach: how far the lines run either way, in units of pixel values.
        refinement: quasi-Newton steps on all weights at the end.
        budget: queries at most; some 4 (width + 1) times the number of pixels are needed, and 400 a line.
        noise: relative error of an answer, by default that of float32.
    """

    family: ClassVar[str] = "extract"
    needs: ClassVar[Access] = Access.LOGITS

    width: Count = 16
    lines: Count = 8
    reach: Positive = 2048.0
    refinement: Count = 100
    budget: Count = 2**18
    noise: NonNegative = 2e-6

    def outcome(self, architecture: str = "") -> str:
        """A perceptron, whatever the victim is."""
        del architecture
        return f"mlp(width={self.width})"

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The recovered net."""
        del data
        if victim.task != "classification":
            raise UsageError(f"recover_relu takes a classifier; {victim.name} does {victim.task}")
        net = build(self.outcome(), victim.input_shape, victim.classes, generator)
        assert isinstance(net, MLP)
        size = torch.Size(victim.input_shape).numel()
        fitted = 4 * (2 * self.width + size + 1)  # four equations an unknown
        if self.budget <= fitted:
            raise UsageError(f"recover_relu needs a budget of more than {fitted} queries here, not {self.budget}")
        units = self._found(asking(Budgeted(victim, self.budget - fitted)), size, generator)
        spread = torch.rand(fitted, 1, generator=generator)
        points = held(0.5 + spread * torch.randn(fitted, size, generator=generator))
        logits = asking(victim)(points)
        units = _refined(_signed(units, points, logits, self.width), points, logits, self.refinement)
        _write(net, units, _head(units, points, logits))
        return net

    def _found(self, ask: Ask, size: int, generator: torch.Generator) -> Units:
        """The purest hyperplanes, at most twice ``width``, as far as the budget goes."""
        found: list[tuple[Tensor, Tensor, float]] = []
        try:
            for _ in range(self.lines):
                start, way = torch.randn(2, size, generator=generator, dtype=torch.float64)
                start = 0.5 + start / 2
                knots = find_knots(ask, start, way, reach=self.reach, noise=self.noise)
                far = knots.new_tensor([torch.inf])
                gaps = torch.minimum(torch.cat([far, knots.diff()]), torch.cat([knots.diff(), far]))
                rooms = gaps[: len(knots)].clamp_max(1 + knots.abs()) / 2
                for knot, room in zip(knots, rooms, strict=True):
                    point = start + knot * way
                    reached = KNOWN * (1 + knot.abs())
                    if not any(bool((row @ point + offset).abs() < reached) for row, offset, _ in found):
                        new = find_hyperplane(ask, point, room * way, noise=self.noise, generator=generator)
                        found += [new] if new[2] < PURE else []
        except BudgetExhausted:
            pass  # what has been found is what the thief has
        return _merged(found, 2 * self.width, size)


def _merged(found: list[tuple[Tensor, Tensor, float]], most: int, size: int) -> Units:
    """The purest knot of each unit."""
    rows, offsets = torch.zeros(0, size, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    for row, offset, _ in sorted(found, key=lambda each: each[2]):
        cosine, centre = rows @ row, rows.sum(1) / 2 + offsets
        apart = (centre - cosine.sign() * (row.sum() / 2 + offset)).abs()
        if not bool(((cosine.abs() > SAME) & (apart < 0.05 * (1 + centre.abs()))).any()):
            rows, offsets = torch.cat([rows, row[None]]), torch.cat([offsets, offset[None]])
    return rows[:most], offsets[:most]


def _bent_fit(units: Units, points: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """C ``[k, classes]`` and L ``[d, classes]`` of the fit, and what its squared error grows by without each unit."""
    rows, offsets = units
    bends = (points @ rows.T + offsets).abs()
    orthogonal, triangle = qr(torch.cat([bends, points, torch.ones_like(points[:, :1])], 1))
    inverse = inv(triangle)
    solved = inverse @ (orthogonal.T @ logits)
    loss = solved.square().sum(1) / inverse.square().sum(1)
    return solved[: len(rows)], solved[len(rows) : -1], loss[: len(rows)]


def _signed(units: Units, points: Tensor, logits: Tensor, width: int) -> Units:
    """``width`` units: those that the fit needs most, as their signs have it, then units that are always on."""
    bends, linear, loss = _bent_fit(units, points, logits)
    while len(loss) > width:  # one by one: of two that stand for the same unit, either may go but not both
        kept = torch.arange(len(loss)) != loss.argmin()
        units = units[0][kept], units[1][kept]
        bends, linear, loss = _bent_fit(units, points, logits)
    rows, offsets = units
    parts = torch.einsum("kd,kc->dck", rows, bends).flatten(0, 1)
    signs = least_squares(parts, linear.reshape(-1, 1))[:, 0].sign() if len(rows) else offsets
    rows, offsets = signs[:, None] * rows, signs * offsets
    spare = svd(linear - rows.T @ bends, full_matrices=False)[0].T[: width - len(rows)]
    return torch.cat([rows, spare]), torch.cat([offsets, (points @ spare.T).abs().amax(0)])


def _hidden(units: Units, points: Tensor) -> Tensor:
    rows, offsets = units
    return torch.cat([torch.relu(points @ rows.T + offsets), torch.ones_like(points[:, :1])], 1)


def _head(units: Units, points: Tensor, logits: Tensor) -> Tensor:
    """Outgoing weights and, last, the bias ``[k + 1, classes]``."""
    return least_squares(_hidden(units, points), logits)


def _refined(units: Units, points: Tensor, logits: Tensor, steps: int) -> Units:
    """Descend in rows and offsets the squared error that the best head leaves (variable projection)."""
    rows, offsets = (tensor.clone().requires_grad_(True) for tensor in units)
    scale = logits.square().mean()
    # No tolerance: the answers are exact but for rounding, so the error goes on falling far below the usual ones.
    optimizer = torch.optim.LBFGS([rows, offsets], 1, steps, None, 0, 0, 50, "strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        hidden = _hidden((rows, offsets), points)
        error = (hidden @ least_squares(hidden.detach(), logits) - logits).square().mean() / scale
        error.backward()
        return error

    optimizer.step(closure)
    return rows.detach(), offsets.detach()


def _write(net: MLP, units: Units, head: Tensor) -> None:
    """Set the weights; the net's own normalisation is taken out of its first layer."""
    (rows, offsets), count = units, len(units[0])
    pixels = net.input_shape[1] * net.input_shape[2]
    mean, std = (buffer.double().flatten().repeat_interleave(pixels) for buffer in (net.mean, net.std))
    hidden = net.layers[0]
    assert isinstance(hidden, nn.Linear)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        hidden.weight[:count] = (rows * std).float()
        hidden.bias[:count] = (offsets + rows @ mean).float()
        net.head.weight[:, :count] = head[:-1].T.float()
        net.head.bias[:] = head[-1].float()
