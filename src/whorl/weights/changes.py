"""What happened to one tensor between two nets: equal, cast, put on a grid, made sparse, moved within few directions.

Every figure is of the pair as it stands in the two files, so a net whose units were permuted has to be aligned first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from whorl.errors import InvalidFile

__all__ = ["Grid", "TensorChange", "describe", "grid_of", "rank_of"]

PIECE: Final = 1 << 16  # numbers treated at a time: they stay in the processor's cache, and in one thread
SUMS: Final = (
    *("ours", "theirs", "product", "change", "along"),  # |A|^2, |B|^2, <A, B>, |B - A|^2, <A, B - A>
    *("zeros_ours", "zeros_theirs", "filled_ours", "filled_theirs", "kept", "elements"),  # |B - A|^2 where A, B is 0
)
GROUPS: Final = (32, 64, 128, 0)  # columns that share a scale in common formats; 0 for a whole row
SHOWN: Final = 8  # numbers of a row, other than zero, of which a grid has half as many values
ROUNDED: Final = 1e-12  # of a mean square: what is left of a difference in double precision
SAMPLED: Final = 256  # rows on which rank and grid are looked for
GRIDDED: Final = 16
LARGEST_RANK: Final = 64
SLACK: Final = 6e-5
STEPS: Final = 255  # of the largest number, at most
COLUMNS: Final = 512  # of a run, on which a step is looked for
WHOLE, ROUNDING = 0.02, 2.0**-10  # of a step, and of itself (half precision), by which a multiple may be off
CHANCE: Final = -25.0  # logarithm of the chance that free numbers would be such multiples
OUTER: Final = 0.25  # of rounded numbers that lie nearer to an end of their cell than to its middle, a half as a rule
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
class TensorChange:
    """What a tensor of A became in B.

    ``cast`` is a type through which one becomes the other exactly, and ``narrowed`` the net that is of this type and
    the other not; ``relative`` is |B - A| / |A|; ``zeros`` are shares of exact zeros in A and B, and ``kept`` the share
    of B's other numbers that are A's, unchanged; ``rank`` is that of B - A where it is small; ``grids`` are those of A
    and of B; ``rounded`` says whether A's numbers are B's, put on the grid of A, and B's those of A; ``branch`` is
    <A - B, A> / |A - B|^2, None where they are equal; ``folded`` says that the gains of a norm were multiplied into
    both before, because one of them has them in it (`whorl.weights.folds`); ``stood_out`` are, of A and of B, how large
    the other's numbers are where it has zeros, over how far the rest moved, infinite where that did not; ``free``
    whether rows with enough numbers other than zero are seen to lie on no grid.
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
    rounded: tuple[bool, bool] = (False, False)
    folded: bool = False
    stood_out: tuple[float, float] = (0.0, 0.0)
    free: tuple[bool, bool] = (True, True)


def describe(name: str, blocks: Iterable[tuple[Tensor, Tensor]], *, matrix: bool) -> TensorChange:
    """Compare two tensors of one shape, given in blocks of rows of any type. Each block is seen once and let go.

    Grid and rank are looked for in the first `SAMPLED` rows of a ``matrix``, or a kernel with all that a row reads: a
    change of rank r has rank r in any rows that are at least as many.

    Raises `InvalidFile` for numbers that are not finite.
    """
    total, casts = dict.fromkeys(SUMS, 0.0), _Casts()
    kept: list[tuple[Tensor, Tensor]] = []
    for ours, theirs in blocks:
        if matrix and sum(len(one) for one, _ in kept) < SAMPLED:
            kept.append((ours[:SAMPLED].flatten(1).float(), theirs[:SAMPLED].flatten(1).float()))
        for one, two in _pieces(ours.reshape(-1), theirs.reshape(-1)):
            for key, value in zip(SUMS, _sums(name, one, two), strict=True):
                total[key] += value
            casts.see(one, two)
    count, equal = int(total["elements"]), total["change"] == 0
    one, two = (torch.cat(each)[:SAMPLED] for each in zip(*kept, strict=True)) if kept else (None, None)
    grids, rank, rounded, free = (None, None), None, (False, False), (True, True)
    if one is not None and two is not None and min(one.shape) > 1:
        grids = grid_of(one), grid_of(two)
        free = _free(one, grids[0]), _free(two, grids[1])
        rounded = _rounded(two, one, grids[0]), _rounded(one, two, grids[1])
        rank = None if equal else rank_of(two - one, float(two.square().sum()))
    cast, narrowed = (None, None) if equal else casts.found()
    return TensorChange(
        name=name,
        elements=count,
        equal=equal,
        cast=cast,
        narrowed=narrowed,
        cosine=min(1.0, total["product"] / max(1e-300, (total["ours"] * total["theirs"]) ** 0.5)),
        relative=(total["change"] / max(1e-300, total["ours"])) ** 0.5,
        zeros=(total["zeros_ours"] / count, total["zeros_theirs"] / count),
        kept=total["kept"] / max(1.0, count - total["zeros_theirs"]),
        rank=rank,
        grids=grids,
        branch=None if equal else -total["along"] / total["change"],
        rounded=rounded,
        stood_out=(_stood_out(total, "ours"), _stood_out(total, "theirs")),
        free=free,
    )


def _stood_out(total: Mapping[str, float], side: str) -> float:
    """Root mean squares: of what fills the zeros of a net in the other, over that of the change elsewhere."""
    zeros, filled = total[f"zeros_{side}"], total[f"filled_{side}"]
    rest = max(0.0, total["change"] - filled) / max(1.0, total["elements"] - zeros)
    if not filled:
        return 0.0
    return (filled / zeros / rest) ** 0.5 if rest > ROUNDED * total["change"] / total["elements"] else math.inf


def _free(rows: Tensor, grid: Grid | None) -> bool:
    """Whether a grid was not found, though some row has numbers enough to show one."""
    return grid is None and bool((rows.count_nonzero(1) >= min(SHOWN, rows.shape[1] // 2)).any())


def _pieces(ours: Tensor, theirs: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Runs of both as float32, in two buffers of their own: what is yielded is soon overwritten."""
    one, two = torch.empty(2, min(PIECE, len(ours)))
    for first in range(0, len(ours), PIECE):
        end = min(first + PIECE, len(ours))
        yield one[: end - first].copy_(ours[first:end]), two[: end - first].copy_(theirs[first:end])


def _sums(name: str, one: Tensor, two: Tensor) -> tuple[float, ...]:
    """The figures of `SUMS` for one run of numbers; in double precision where squares are too large for single."""
    change = two - one
    products = [
        float(torch.dot(*pair)) for pair in ((one, one), (two, two), (one, two), (change, change), (one, change))
    ]
    if not math.isfinite(sum(products)):
        if not (one.isfinite().all() and two.isfinite().all()):
            raise InvalidFile(f"{name} holds NaN or an infinity")
        if one.dtype == torch.float32:
            return _sums(name, one.double(), two.double())
    count = len(one)
    zeros = [count - int(value.count_nonzero()) for value in (one, two)]
    same = count - int(change.count_nonzero())
    both = int(((one == 0) & (two == 0)).sum()) if all(zeros) else 0
    filled = [
        float(change[value == 0].square().sum()) if some else 0.0 for value, some in zip((one, two), zeros, strict=True)
    ]
    return (*products, *zeros, *filled, same - both, count)


class _Casts:
    """Types through which one net becomes the other, as far as has been seen, and which of the two nets have them."""

    def __init__(self) -> None:
        self.left = dict(CASTS)
        self.narrow = {(key, side): True for key in CASTS for side in "AB"}

    def see(self, one: Tensor, two: Tensor) -> None:
        """The next numbers. A few tell most that are not."""
        for key, dtype in list(self.left.items()):
            if not (_rounds(one[:64], two[:64], dtype) and _rounds(one, two, dtype)):
                del self.left[key]
        for key, dtype in self.left.items():
            for side, value in (("A", one), ("B", two)):
                self.narrow[key, side] = self.narrow[key, side] and torch.equal(value.to(dtype).float(), value)

    def found(self) -> tuple[str | None, Literal["A", "B"] | None]:
        """The widest such type, and the net that alone has it."""
        cast = next(iter(self.left), None)
        sides: list[Literal["A", "B"]] = [side for side in ("A", "B") if cast and self.narrow[cast, side]]
        return cast, sides[0] if len(sides) == 1 else None


def _rounds(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> bool:
    """Is one of them the other, rounded to this type?"""
    one, two = ours.to(dtype).float(), theirs.to(dtype).float()
    return torch.equal(one, theirs) if torch.equal(two, theirs) else torch.equal(two, ours)


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

    A run is on a grid where it holds at most half as many values as numbers other than zero, or multiples of one step
    of which the largest is at most `STEPS`: what rounds to whole numbers leaves those, by whatever scale and zero.

    Shape:
        matrix: ``[n, m]``.
    """
    rows = matrix[torch.linspace(0, len(matrix) - 1, min(GRIDDED, len(matrix))).long()]
    best: Grid | None = None
    for group in GROUPS:
        wide = group or rows.shape[1]
        if wide > rows.shape[1] or wide < 32:
            continue
        if _levels(rows[:1], wide) is None or (levels := _levels(rows, wide)) is None:  # one row tells most
            continue
        found = Grid(levels, 0 if wide == rows.shape[1] else wide)
        if 1 < found.levels <= 256 and (best is None or found.bits <= best.bits):
            best = found
    return best


def _rounded(free: Tensor, gridded: Tensor, grid: Grid | None) -> bool:
    """Whether each number of ``free`` was rounded to the one that ``gridded`` has, the nearest of its run's grid.

    The runs that share a scale may be shorter than those that were found to lie on a grid. Formats round by a scale
    that they then store in half precision, which moves a number of many levels to the next: `SLACK` of the numbers for
    each level may differ. A net that was tuned before or after differs in more.
    """
    if grid is None:
        return False
    rows = torch.linspace(0, len(free) - 1, min(GRIDDED, len(free))).long()
    return any(
        _nearest(_runs(free[rows], wide), _runs(gridded[rows], wide))
        for wide in {group or free.shape[1] for group in GROUPS}
        if wide <= (grid.group or free.shape[1])
    )


def _runs(rows: Tensor, wide: int) -> Tensor:
    """Whole runs of so many columns; what is left of a row is left out."""
    return rows[:, : rows.shape[1] // wide * wide].reshape(-1, wide)


def _nearest(free: Tensor, gridded: Tensor) -> bool:
    """Whether numbers were rounded to what they are on a grid, run by run.

    What was rounded lies anywhere in its cell; a number of the grid that moved a little later lies in the middle.
    """
    differ, outer, allowed = 0, 0, 0.0
    for ours, theirs, step in zip(free, gridded, _steps(gridded).tolist(), strict=True):
        levels = theirs.unique()
        if step:  # levels that no number has happened to have
            levels = step * torch.arange(int((levels[0] / step).round()), int((levels[-1] / step).round()) + 1)
        ends = (levels[1:] + levels[:-1]) / 2
        own, place = torch.bucketize(theirs, ends), torch.bucketize(ours, ends)  # the ends take all that lies beyond
        differ, allowed = differ + int((place != own).sum()), allowed + SLACK * len(levels) * len(ours)
        away, middle = ours - levels[own], 0 * ours
        if len(ends):
            below, above = ends[(own - 1).clamp_min(0)], ends[own.clamp_max(len(ends) - 1)]
            middle = torch.where(away < 0, below - levels[own], above - levels[own]) / 2
        outer += int((away.abs() > middle.abs()).sum())
    return differ <= allowed and outer >= OUTER * free.numel()


def _levels(rows: Tensor, wide: int) -> int | None:
    """Most values in any run of so many columns, 0 where all are zero; None where one of the runs lies on no grid."""
    runs = _runs(rows, wide).sort(1).values
    different = 1 + ((runs.diff(dim=1) != 0) & (runs[:, 1:] != 0)).sum(1)
    numbers = (runs != 0).sum(1)
    told = numbers >= 2  # zeros are what pruning leaves, and no sign of a grid
    many = told & (2 * different > numbers)
    for some in (many.nonzero().flatten()[:1], many.nonzero().flatten()):  # one run tells most
        if len(some):
            steps = _steps(runs[some])
            if not bool((steps > 0).all()):
                return None
            different[some] = 1 + ((runs[some, -1] - runs[some, 0]) / steps).round().long()
    return int(different[told].max()) if told.any() else 0


def _steps(runs: Tensor) -> Tensor:
    """The largest step of which each run holds whole multiples alone, `STEPS` at most; 0 where there is none.

    Of the largest number it is a whole part. Enough numbers must be whole that free ones would not be by chance.

    Shape:
        runs: ``[n, m]``; returns ``[n]``.
    """
    largest = runs.abs().amax(1, keepdim=True)
    seen = runs[:, torch.linspace(0, runs.shape[1] - 1, min(COLUMNS, runs.shape[1])).long()]
    steps = torch.zeros(len(runs))
    parts = torch.arange(1, STEPS + 1)[:, None]
    for place, (row, most) in enumerate(zip(seen, largest[:, 0].tolist(), strict=True)):
        if not most:
            continue
        multiples = row / most * parts
        whole = multiples.round()
        off = WHOLE + ROUNDING * whole.abs()
        fits = ((multiples - whole).abs() <= off).all(1)
        chance = torch.where((row != 0) & (row.abs() != most), (2 * off).clamp_max(1).log(), 0.0).sum(1)
        found = (fits & (chance < CHANCE)).nonzero().flatten()
        steps[place] = most / (int(found[0]) + 1) if len(found) else 0.0
    return steps


def weighted(changes: Sequence[TensorChange], value: str) -> float:
    """Mean of a figure over tensors, each by its elements."""
    total = sum(change.elements for change in changes)
    return sum(float(getattr(change, value)) * change.elements for change in changes) / max(1, total)
