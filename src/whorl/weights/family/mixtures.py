"""A net as a combination of others: coefficients by least squares with their nulls, and overlap of task vectors.

B is fitted by the combination of candidates, weights summing to 1, that comes nearest: min |B - sum w_i theta_i|. With
an ancestor theta_0 this is the regression of B's task vector on those of the others, B - theta_0 on theta_i - theta_0
(task vectors: G. Ilharco et al., Editing Models with Task Arithmetic, ICLR 2023), and on theta_0 itself, which grows or
decays while nets are tuned. Coefficients may be negative, and those of task vectors sum to anything.

**The null of a coefficient.** By Frisch, Waugh and Lovell w_i = <r, e> / <r, r>, where r is what the other points leave
of theta_i, and e what they leave of B. If the numbers of r were in random order and of random signs in each matrix,
w_i would have mean 0 and exactly the variance sum_t |r_t|^2 |e_t|^2 / n_t / |r|^4 over matrices t of n_t numbers. So it
is for a candidate that owes the others nothing and whose numbers are alike within a matrix. Trained nets are not quite
like that: coefficients of strangers of one text stray 1.5 times as far over 64 rows of each matrix of tiny language
models, 2.4 times over all rows (24 fits, eight seeds). **And relatives are not at all**: siblings tuned from one net
move alike without regard to each other. A coefficient far above its null says that two nets moved alike, not that one
was mixed from the other; `whorl.weights.family.merges` says what more a merge shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.checkpoints.opening import open_checkpoint
from whorl.errors import UsageError
from whorl.weights.family.products import ROWS, Floats, Matrices, Products, products

__all__ = [
    "CAVEATS",
    "NULL",
    "Coefficient",
    "Fit",
    "Mixture",
    "Overlap",
    "document",
    "fit",
    "mixture",
    "overlaps",
    "own_parts",
]

NULL: Final = "the numbers of what is a candidate's own are in random order and of random signs, in each matrix"
CAVEATS: Final = (
    "A coefficient far above what chance gives says that two nets moved alike. Siblings that were tuned on like text "
    "do so too: only an unexplained share near 0 shows that B was mixed from these nets.",
    "Rows and columns of trained nets differ in size, so that coefficients of strangers stray up to thrice as far.",
)
DIGITS: Final = 1e-13
SPANNED: Final = 1e-9  # of a squared length: what is left of a point that the others span


@dataclass(frozen=True)
class Fit:
    """Weights of points, [points] with sum 1, in the combination nearest to a net.

    ``null`` are the standard deviations of these weights under `NULL`; ``left`` is the squared distance that remains.
    """

    weights: Floats
    null: Floats
    left: float


@dataclass(frozen=True)
class Overlap:
    """Two task vectors: their cosine with its standard deviation under `NULL`, and the share of equal signs among the
    ``compared`` numbers that belong to the largest fifth of both, which by chance is a half, give or take its ``null``.
    """

    first: str
    second: str
    cosine: float
    cosine_null: float
    equal_signs: float
    equal_signs_null: float
    compared: int


@dataclass(frozen=True)
class Coefficient:
    """The weight of a candidate, and its standard deviation under `NULL`."""

    name: str
    value: float
    null: float


@dataclass(frozen=True)
class Mixture:
    """A net, as a combination of others.

    ``explained`` is the share, from 0 to 1, of the squared distance from B to the ancestor; without an ancestor it is
    that to the nearest candidate, and there are no ``overlaps``. ``numbers`` is how many were read of each net.
    """

    coefficients: tuple[Coefficient, ...]
    explained: float
    ancestor: str | None
    overlaps: tuple[Overlap, ...]
    numbers: int


def mixture(
    child: Checkpoint | str | Path,
    candidates: Sequence[Checkpoint | str | Path],
    *,
    ancestor: Checkpoint | str | Path | None = None,
    rows: int = ROWS,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Mixture:
    """What share each of some nets has in another, and what share of it they leave unexplained.

    Parameters:
        candidates: at least two nets, or one beside an ancestor, of the child's architecture and size.
        ancestor: the net since which all have changed; coefficients are then those of task vectors.
        rows: how many of each matrix to read, evenly spread; 0 for all. One matrix of each net is in memory at a time,
            and of that 1,024 rows.

    Raises:
        UsageError: other shapes, too few candidates, or one that is a combination of the others.
        InvalidFile: a file is damaged or untrue.
    """
    if len(candidates) < (1 if ancestor else 2):
        raise UsageError("a mixture has at least two parents, or one and an ancestor: name further candidates")
    points = [*candidates, *([] if ancestor is None else [ancestor])]
    nets = [each if isinstance(each, Checkpoint) else open_checkpoint(Path(each)) for each in (child, *points)]
    last = None if ancestor is None else len(nets) - 1
    found = products([Matrices(net) for net in nets], rows=rows, ancestor=last, progress=progress)
    fitted = fit(found, 0, [*range(1, len(nets)), *([found.origin] if last else [])])
    names = [str(net.path) for net in nets]
    away = [_apart(found.total, 0, place) for place in ([last] if last else range(1, len(nets)))]
    return Mixture(
        coefficients=tuple(
            Coefficient(names[place + 1], float(fitted.weights[place]), float(fitted.null[place]))
            for place in range(len(candidates))
        ),
        explained=1 - min(1.0, fitted.left / min(away)) if min(away) > 0 else 1.0,
        ancestor=names[last] if last else None,
        overlaps=tuple(overlaps(found, names, last)) if last else (),
        numbers=int(found.counts.sum()),
    )


def fit(found: Products, child: int, points: Sequence[int]) -> Fit:
    """Fit one of the nets by others, at least two. Raises `UsageError` where one is a combination of the others."""
    if len(points) < 2:
        raise UsageError(f"a combination is of at least two nets, not of {len(points)}")
    total = found.total
    own, rest = own_parts(total, child, points)
    sizes = np.einsum("pi,ij,pj->p", own, total, own)
    nearest = np.array([min(_apart(total, point, other) for other in points if other != point) for point in points])
    if (sizes <= SPANNED * nearest).any():
        raise UsageError(
            "a candidate is a copy or a combination of the others, so that shares cannot be told; leave it out"
        )
    weights = np.einsum("pi,ij,pj->p", own, total, rest) / sizes
    ours, theirs = (np.einsum("pi,tij,pj->pt", each, found.inner, each) for each in (own, rest))
    null = np.sqrt(np.maximum(0, ours * theirs / found.counts).sum(1)) / sizes
    end = -weights @ np.eye(len(total))[list(points)]
    end[child] += 1
    return Fit(weights, null, max(0.0, float(end @ total @ end)))


def own_parts(total: Floats, child: int, points: Sequence[int]) -> tuple[Floats, Floats]:
    """What each point is, and what the child is, beyond the nearest combination of the other points.

    Both as weights of all nets that sum to 0, [points, nets]; ``total`` are products as `Products.total`.
    """
    others = [[other for other in points if other != point] for point in points]
    own = [_beyond(total, point, rest) for point, rest in zip(points, others, strict=True)]
    return np.stack(own), np.stack([_beyond(total, child, rest) for rest in others])


def _beyond(total: Floats, net: int, points: Sequence[int]) -> Floats:
    unit = np.eye(len(total))
    away, steps = unit[net] - unit[points[0]], unit[points[1:]] - unit[points[0]]
    weights, *_ = np.linalg.lstsq(steps @ total @ steps.T, steps @ total @ away, rcond=DIGITS)
    return away - weights @ steps


def _apart(total: Floats, one: int, two: int) -> float:
    return float(total[one, one] + total[two, two] - 2 * total[one, two])


def overlaps(found: Products, names: Sequence[str], ancestor: int) -> list[Overlap]:
    """The overlap of each two task vectors of nets that differ from their ancestor."""
    unit = np.eye(found.origin + 1)
    moved = unit[: len(names)] - unit[ancestor]
    inner = moved @ found.inner @ moved.T
    squares = inner.diagonal(axis1=1, axis2=2)  # [matrices, nets]
    places = [place for place in range(len(names)) if squares[:, place].sum() > 0]
    told = []
    for one, two in combinations(places, 2):
        size = float(np.sqrt(squares[:, one].sum() * squares[:, two].sum()))
        by_chance = float(np.sqrt((squares[:, one] * squares[:, two] / found.counts).sum()))
        large = int(found.large[one, two])
        told.append(
            Overlap(
                first=names[one],
                second=names[two],
                cosine=float(inner[:, one, two].sum()) / size,
                cosine_null=by_chance / size,
                equal_signs=int(found.equal[one, two]) / max(1, large),
                equal_signs_null=0.5 / float(np.sqrt(max(1, large))),
                compared=large,
            )
        )
    return told


def document(found: Mixture) -> dict[str, Any]:
    """A mixture as JSON."""
    return {"null_hypothesis": NULL, **asdict(found), "unexplained": 1 - found.explained, "caveats": list(CAVEATS)}
