"""Whether a net has the same share of another everywhere, as a merge has, and a net that learned alike has not.

A merge carries of its parents what is chance in them as well as what is lesson, and in every matrix alike. A net that
was tuned on what a sibling learned moves like the sibling where the lesson lies: more in some matrices than in others,
and along the large singular directions of the sibling's change rather than along the many small ones.

So the coefficient of each parent (`whorl.weights.family.mixtures`) is taken apart: in each matrix by the first quarter
of the singular directions of the parent's own part, and by the rest. Unevenness is the standard deviation between these
groups over their mean, less what the unexplained part of the child gives by chance: a random-effects variance (R.
DerSimonian and N. Laird, Controlled Clinical Trials 1986), its weights for groups that differ by a tenth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from whorl.weights.family.mixtures import own_parts
from whorl.weights.family.products import Floats, Matrices, Products

__all__ = ["unevenness"]

COARSE: Final = 0.25  # of the singular directions
SUPPOSED: Final = 0.1
VANISHING: Final = 1e-12


def unevenness(nets: Sequence[Matrices], found: Products, child: int, parents: Sequence[int], ancestor: int) -> float:
    """The largest over parents; 0 for a linear merge. Some rows of each matrix of these nets are read again."""
    own, rest = own_parts(found.total, child, [*parents, ancestor, found.origin])
    places = [child, *parents, ancestor]  # the origin adds nothing
    groups: list[list[tuple[float, float]]] = [[] for _ in parents]
    for key in nets[child].plan:
        values = np.stack([next(nets[place].blocks(key)) for place in places])
        for each, ours, theirs in zip(groups, own, rest, strict=False):
            each += _groups(_combined(ours[places], values), _combined(theirs[places], values))
    return max(map(spread_of, groups))


def _combined(weights: Floats, values: Floats) -> Floats:
    return (weights[:, None, None] * values).sum(0)


def _groups(own: Floats, rest: Floats) -> Iterator[tuple[float, float]]:
    """Of one matrix: the coefficient along coarse and along fine directions, each with its variance by chance."""
    left, sizes, right = np.linalg.svd(own, full_matrices=False)
    along, squares = sizes * np.einsum("ki,kj,ij->i", left, rest, right), sizes**2
    if not squares.sum() > 0:
        return
    noise = float(np.square(rest - along.sum() / squares.sum() * own).mean())
    first = max(1, round(COARSE * len(sizes)))
    for some in (slice(first), slice(first, None)):
        size = float(squares[some].sum())
        if size > VANISHING * squares.sum():
            yield float(along[some].sum()) / size, noise / size


def spread_of(groups: Sequence[tuple[float, float]]) -> float:
    """Standard deviation between groups, given as (value, variance by chance), over the size of their mean."""
    values, variances = np.array(groups).T
    weights = 1 / (variances + (SUPPOSED * values.mean()) ** 2)
    mean = float(np.average(values, weights=weights))
    between = float(np.average((values - mean) ** 2 - variances, weights=weights))
    return float(np.sqrt(max(0.0, between))) / abs(mean)
