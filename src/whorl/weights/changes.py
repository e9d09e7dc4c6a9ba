"""What happened to one tensor between two nets: equal, cast, put on a grid, made sparse, moved within few directions.

Every figure is of the pair as it stands in the two files, so a net whose units were permuted has to be aligned first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

__all__ = ["Change", "Grid", "describe", "grid_of", "rank_of"]

BLOCK: Final = 1 << 18  # elements treated at a time: they stay in the processor's cache
GROUPS: Final = (32, 64, 128, 0)  # columns that share a scale in common formats; 0 for a whole row
SAMPLED: Final = 256  # rows on which rank and grid are looked for
GRIDDED: Final = 16
LARGEST_RANK: Final = 64
CASTS: Final = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


@dataclass(frozen=True)
class Grid:
    """At most ``levels`` different values in every run of ``group`` columns (0: a whole row)."""

    levels: int
    group: int

    @property
    def bits(self) -> int:
        """Bits that tell the levels apart."""
        return max(1, (self.levels - 1).bit_length())


@dataclass(frozen=True)
class Change:
    """What a tensor of A became in B.

    ``cast`` is a type through which one becomes the other exactly, and ``narrowed`` the net that is of this type and
    the other not; ``relative`` is |B - A| / |A|; ``zeros`` are shares of exact zeros in A and B, and ``kept`` the share
    of B's other numbers that are A's, unchanged; ``rank`` is that of B - A where it is small; ``grids`` are those of A
    and of B; ``branch`` is <A - B, A> / |A - B|^2, None where they are equal.
    """

    name: str
    elements: int
    equal: bool
    cast: str | None
    narrowed: Literal["A", "B"] | None
    cosine: float
    relative: float
    zeros: tuple[float, float]
    kept: float
    rank: int | None
    grids: tuple[Grid | None, Grid | None]
    branch: float | None


def describe(name: str, blocks: Iterable[tuple[Tensor, Tensor]], *, matrix: bool) -> Change:
    """Compare two tensors of one shape, given in blocks of rows as float32. Each block is seen once and let go.

    Grid and rank are looked for in the first `SAMPLED` rows of a ``matrix``: a change of rank r has rank r in any
    rows that are at least as many.
    """
    total: dict[str, float] = {}
    casts, count = dict(CASTS), 0
    narrow = {(key, side): True for key in CASTS for side in "AB"}
    kept: list[tuple[Tensor, Tensor]] = []
    for ours, theirs in blocks:
        for key, value in _sums(ours.reshape(-1), theirs.reshape(-1)).items():
            total[key] = total.get(key, 0.0) + value
        casts = {key: dtype for key, dtype in casts.items() if _rounds(ours, theirs, dtype)}
        for key, dtype in casts.items():
            for side, value in (("A", ours), ("B", theirs)):
                narrow[key, side] = narrow[key, side] and torch.equal(value.to(dtype).float(), value)
        count += ours.numel()
        if matrix and sum(len(one) for one, _ in kept) < SAMPLED:
            kept.append((ours[:SAMPLED].clone(), theirs[:SAMPLED].clone()))
    equal = total["change"] == 0
    one, two = (torch.cat(each)[:SAMPLED] for each in zip(*kept, strict=True)) if kept else (None, None)
    grids, rank = (None, None), None
    if one is not None and two is not None and min(one.shape) > 1:
        grids = grid_of(one), grid_of(two)
        rank = None if equal else rank_of(two - one, float(two.square().sum()))
    cast = None if equal else next(iter(casts), None)
    sides = [side for side in "AB" if cast and narrow[cast, side]]
    return Change(
        name=name,
        elements=count,
        equal=equal,
        cast=cast,
        narrowed=None if len(sides) != 1 else "A" if sides == ["A"] else "B",
        cosine=min(1.0, total["product"] / max(1e-300, (total["ours"] * total["theirs"]) ** 0.5)),
        relative=(total["change"] / max(1e-300, total["ours"])) ** 0.5,
        zeros=(total["zeros_ours"] / count, total["zeros_theirs"] / count),
        kept=total["kept"] / max(1.0, count - total["zeros_theirs"]),
        rank=rank,
        grids=grids,
        branch=None if equal else (total["ours"] - total["product"]) / total["change"],
    )


def _sums(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    """Sums over all elements, in pieces that stay in the processor's cache."""
    names = ("ours", "theirs", "product", "change", "zeros_ours", "zeros_theirs", "kept")
    total: dict[str, float] = dict.fromkeys(names, 0.0)
    for first in range(0, len(ours), BLOCK):
        one, two = ours[first : first + BLOCK], theirs[first : first + BLOCK]
        change = two - one
        parts = (
            *(torch.dot(one, one), torch.dot(two, two), torch.dot(one, two), torch.dot(change, change)),
            *(len(one) - one.count_nonzero(), len(two) - two.count_nonzero()),
        )
        same = len(change) - int(change.count_nonzero())
        both = int(((one == 0) & (two == 0)).sum()) if same else 0
        for key, part in zip(names, (*parts, same - both), strict=True):
            total[key] += float(part)
    return total


def _rounds(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> bool:
    """Is one of them the other, rounded to this type? A few numbers tell most that are not."""
    few = torch.equal(*_rounded(ours.reshape(-1)[:64], theirs.reshape(-1)[:64], dtype))
    return few and torch.equal(*_rounded(ours, theirs, dtype))


def _rounded(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    one, two = ours.to(dtype).float(), theirs.to(dtype).float()
    return (one, theirs) if torch.equal(two, theirs) else (two, ours)


def rank_of(change: Tensor, energy: float) -> int | None:
    """Rank of a matrix that is low-rank up to rounding; None where more than `LARGEST_RANK` directions are needed.

    By a randomised range finder (Halko, Martinsson and Tropp, SIAM Review 2011, algorithm 4.1). What is left may be the
    rounding of numbers of this ``energy`` (sum of squares) to bfloat16, or a 1,000th of the change, whichever is more.

    Shape:
        change: ``[n, m]``.
    """
    most = min(LARGEST_RANK, min(change.shape) // 4)
    if most < 1:
        return None
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(change.shape[1], most + 8, generator=generator)
    basis = torch.linalg.qr(change @ probes).Q
    values = torch.linalg.svdvals(basis.T @ change).double().square()
    total = float(change.double().square().sum())
    left = total - torch.cumsum(values, 0)
    allowed = max(1e-3 * total, 2.0**-18 / 12 * energy)
    enough = (left <= allowed).nonzero().flatten()
    rank = int(enough[0]) + 1 if len(enough) else most + 1
    return rank if rank <= most else None


def grid_of(matrix: Tensor) -> Grid | None:
    """The coarsest grid that some rows lie on, in the longest runs that have it.

    A run is on a grid where it holds at most half as many values as numbers other than zero.

    Shape:
        matrix: ``[n, m]``.
    """
    rows = matrix[torch.linspace(0, len(matrix) - 1, min(GRIDDED, len(matrix))).long()]
    best: Grid | None = None
    for group in GROUPS:
        wide = group or rows.shape[1]
        if wide > rows.shape[1] or wide < 32 or rows.shape[1] % wide:
            continue
        runs = rows.reshape(-1, wide).sort(1).values
        different = 1 + ((runs.diff(dim=1) != 0) & (runs[:, 1:] != 0)).sum(1)
        numbers = (runs != 0).sum(1)
        told = numbers >= 2  # zeros are what pruning leaves, and no sign of a grid
        if not told.any() or bool((2 * different > numbers)[told].any()):
            continue
        found = Grid(int(different[told].max()), 0 if wide == rows.shape[1] else wide)
        if 1 < found.levels <= 256 and (best is None or found.bits <= best.bits):
            best = found
    return best


def weighted(changes: Sequence[Change], value: str) -> float:
    """Mean of a figure over tensors, each by its elements."""
    total = sum(change.elements for change in changes)
    return sum(float(getattr(change, value)) * change.elements for change in changes) / max(1, total)
