"""Where the logits of a ReLU net bend, and the hyperplane on which they do, found by asking about points alone.

Between the hyperplanes on which its hidden units switch, such a net is affine. Sources: Milli, Schmidt, Dragan & Hardt,
FAT* 2019 (lines, and the turn of the gradient at a knot); Jagielski et al., USENIX Security 2020, section 6 (the search
for a knot between two affine pieces). What is asked for is the same whatever symmetry the weights went through.

Steps are so wide that answers in float32 do: every test of a difference is relative to the logits around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.linalg import lstsq, svd

from whorl.oracles.base import Oracle

__all__ = ["Ask", "asking", "find_hyperplane", "find_knots", "held", "least_squares"]

Ask = Callable[[Tensor], Tensor]
"""Points ``[..., d]`` to logits ``[..., classes]``, float64 both."""

CELLS = 8  # of a stretch of a line that is searched for a knot
NARROW = 1e-6  # stretches below this share of their distance are below the grain of float32
HALVINGS = 14
CLOUDS = 4  # sizes of cloud that are tried at a knot, each a quarter of the one before


def asking(victim: Oracle) -> Ask:
    """The victim's logits, of points that are flattened pictures."""

    def ask(points: Tensor) -> Tensor:
        logits = victim.logits(points.float().reshape(-1, *victim.input_shape))
        return logits.double().reshape(*points.shape[:-1], victim.classes)

    return ask


def held(points: Tensor) -> Tensor:
    """What of the points float32 holds, which is what the victim sees of them."""
    return points.float().double()


def least_squares(design: Tensor, targets: Tensor) -> Tensor:
    """The smallest solution; by singular values, since the default driver has other bits each time it is asked."""
    return lstsq(design, targets, driver="gelsd").solution


def find_knots(ask: Ask, start: Tensor, way: Tensor, *, reach: float, noise: float) -> Tensor:
    """Where on the line ``start + t way``, |t| <= ``reach``, the logits bend: values of t ``[k]``, sorted.

    A stretch without second differences beyond ``noise`` (relative to the logits) holds no knot. One whose points lie
    on the two affine pieces through its ends, which meet at one place for all classes, holds one. Others are halved.

    Shape:
        start, way: ``[d]`` float64.
    """
    # Octaves: the grain of float32 is relative too.
    ends = 2.0 ** torch.arange(-3, max(-2, math.floor(math.log2(reach))) + 1, dtype=torch.float64)
    edges = torch.cat([-ends.flip(0), ends])
    low, high = edges[:-1], edges[1:]
    steps = torch.arange(CELLS + 1, dtype=torch.float64)
    found = [edges[:0]]
    for _ in range(HALVINGS):
        cell = (high - low) / CELLS
        logits = ask(start + (low[:, None] + cell[:, None] * steps)[..., None] * way)
        limit = 8 * noise * logits.abs().amax((1, 2))
        bent = (logits.diff(n=2, dim=1).norm(dim=2) > limit[:, None]).any(1)
        low, cell, logits, limit = low[bent], cell[bent], logits[bent], limit[bent]
        if not len(low):
            break
        place, error = _bend(logits)
        # Both ends reach over one cell: a knot inside of that would seem to be at its inner rim.
        single = (error < 2 * limit) & (place > 1.01) & (place < CELLS - 1.01)
        found.append((low + cell * place)[single])
        again = ~single & (cell > NARROW * low.abs().clamp_min(0.1))
        low, cell = low[again], cell[again]
        # The halves overlap, and not at the middle: a knot on the rim of both would stay there.
        low, high = torch.cat([low, low + 3.4 * cell]), torch.cat([low + 4.6 * cell, low + CELLS * cell])
    at = torch.cat(found).sort().values
    return at[torch.cat([torch.ones(len(at[:1]), dtype=torch.bool), at.diff() > 1e-5 * at[1:].abs().clamp_min(0.1)])]


def _bend(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Where the affine pieces through both ends meet, in cells ``[m]``, and how far they miss the points ``[m]``.

    Shape:
        logits: ``[m, CELLS + 1, classes]`` of the points between cells.
    """
    steps = torch.arange(CELLS + 1, dtype=torch.float64)
    first, last = logits[:, 1] - logits[:, 0], logits[:, -1] - logits[:, -2]
    turn, miss = first - last, logits[:, -1] - logits[:, 0] - CELLS * last
    place = (miss * turn).sum(1) / turn.square().sum(1)
    before = logits[:, :1] + first[:, None] * steps[:, None]
    after = logits[:, -1:] - last[:, None] * (CELLS - steps)[:, None]
    pieces = torch.where((steps <= place[:, None])[..., None], before, after)
    error = (pieces - logits).norm(dim=2).amax(1)
    return place, torch.maximum(error, (miss - turn * place[:, None]).norm(dim=1))


def find_hyperplane(
    ask: Ask, point: Tensor, side: Tensor, *, noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, float]:
    """Unit normal ``[d]`` and offset of the hyperplane near ``point`` on which the logits bend, and its impurity.

    An affine map is fitted to a cloud of points at ``point + side`` and another at ``point - side``. Where one unit
    switches between them their difference has rank 1, normal times outgoing weights; the impurity is the share of the
    other singular values, infinite where no cloud is small enough to lie in one affine piece.

    Shape:
        point, side: ``[d]`` float64.
    """
    size = len(point)
    sides = torch.stack([point + side, point - side])[:, None]
    for shrink in range(CLOUDS):
        spread = side.square().mean().sqrt() / 8 / 4**shrink
        points = held(sides + spread * torch.randn(2, 2 * (size + 1), size, generator=generator))
        logits = ask(points)
        design = torch.cat([(points - sides) / spread, torch.ones(*points.shape[:2], 1, dtype=torch.float64)], 2)
        planes = least_squares(design, logits)
        error = (design @ planes - logits).abs().max() / logits.abs().max()
        if error < 16 * noise:
            turn, whole = planes[0] - planes[1], planes[0] + planes[1]
            normals, values, outgoing = svd(turn[:-1], full_matrices=False)
            at_point = (turn[-1] - side @ whole[:-1] / spread) @ outgoing[0] / values[0] * spread
            normal = normals[:, 0]
            return normal, at_point - normal @ point, float(values[1:].sum() / values.sum())
    return torch.zeros_like(point), torch.zeros_like(point[0]), math.inf
