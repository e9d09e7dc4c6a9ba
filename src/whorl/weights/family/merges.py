"""Which nets of a folder are merges of which others, with coefficients and the share that stays unexplained.

**Without an ancestor**: for each net B the combination of other nets, w >= 0 with sum 1, that comes nearest to it
(least squares with bounds: Lawson and Hanson 1974, chapter 23). B is a merge where this leaves at most a tenth of the
squared distance to its nearest single net, and each weight is far above its null. That the weights are positive is what
makes B the child: if B = (S + T) / 2 then also S = 2 B - T, which is no average.

**With an ancestor** more may stay unexplained, as of TIES and DARE, which drop changes, and of merges that were tuned
on. Among nets that are told to come after one ancestor, and not after B, those two are taken whose task vectors leave
least of B's, and further parents as long as all hold. B is a merge where each coefficient is at least a fifth and far
above its null, *and* the same throughout the net (`whorl.weights.family.evenness`): siblings that learned alike have
large coefficients too, and not evenly.

It is a reading all the same. A net halfway along another's training, whose second half went straight on, looks like an
average of the two ends; a net that was tuned in turns on the texts of two siblings looks like their merge; and where
merging and a further tuning could as well have been tuning a parent and then merging, the wrong net may be named. How
often, `benchmarks/lineage_merges.py` counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import nnls

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.errors import UsageError
from whorl.weights.family.evenness import unevenness
from whorl.weights.family.mixtures import Fit, fit
from whorl.weights.family.products import Floats, Matrices, Products, products

__all__ = ["Merge", "merges_of"]

UNEXPLAINED: Final = 0.1  # of the squared distance to the nearest net, without an ancestor
LEAST: Final = 0.05  # the smallest weight that counts without an ancestor
LEAST_CHANGE: Final = 0.2  # and with one
DROPPED: Final = 8  # nearest nets that are left out at most
CLEARLY: Final = 5.0  # standard deviations under the null
UNEVEN: Final = 0.22  # chosen on seeds 300 to 307
ALIKE: Final = 0.8  # cosine of task vectors beyond which two nets are one parent, or the ancestor is no near one


@dataclass(frozen=True)
class Merge:
    """Parents of a net, by place, with their coefficients, all positive; without an ancestor their sum is 1.

    ``null`` are the standard deviations of these by chance (`whorl.weights.family.mixtures`). ``unexplained``, from 0
    to 1, is the part of the squared distance to the ancestor that the merge leaves, or of that to the nearest single
    net. With an ``ancestor`` coefficients are those of changes since it.
    """

    shares: Mapping[int, float]
    null: Mapping[int, float]
    unexplained: float
    ancestor: int | None = None

    def among(self, places: Sequence[int]) -> Merge:
        """The same where the nets stand at these places of a longer list."""
        shares, null = ({places[each]: value for each, value in held.items()} for held in (self.shares, self.null))
        return Merge(shares, null, self.unexplained, None if self.ancestor is None else places[self.ancestor])


def merges_of(nets: Sequence[Checkpoint], earlier: Collection[tuple[int, int]] = ()) -> dict[int, Merge]:
    """Merges among these nets, by place; nets of other shapes are no parents.

    ``earlier`` are the pairs of places of which the first is told to be an ancestor of the second. Some rows of all
    matrices are read.
    """
    parts = [Matrices(net) for net in nets]
    plans = [frozenset(each.plan.items()) for each in parts]
    found: dict[int, Merge] = {}
    for plan in {each for each in plans if each}:
        group = [place for place, each in enumerate(plans) if each == plan]
        if len(group) > 2:
            told = {(group.index(a), group.index(b)) for a, b in earlier if a in group and b in group}
            search = _Search([parts[place] for place in group], told)
            found |= {group[child]: merge.among(group) for child, merge in search.merges()}
    return dict(sorted(found.items()))


class _Search:
    """Nets of one plan, and their products, which are read once."""

    def __init__(self, nets: Sequence[Matrices], earlier: Collection[tuple[int, int]]) -> None:
        self.nets, self.earlier = nets, earlier
        self.products: Products = products(nets)
        self.total = self.products.total
        self.unit = np.eye(len(nets) + 1)

    def merges(self) -> list[tuple[int, Merge]]:
        found = ((child, self._linear(child) or self._of_changes(child)) for child in range(len(self.nets)))
        return [(child, merge) for child, merge in found if merge is not None]

    def _linear(self, child: int) -> Merge | None:
        """The first fit that explains enough: to all nets, then without the nearest, which may be made from it."""
        away = self.unit[:-1] - self.unit[child]
        inner = away @ self.total @ away.T
        order = [int(place) for place in np.argsort(inner.diagonal(), kind="stable") if place != child]
        nearest = float(inner[order[0], order[0]])
        if nearest <= 1e-12 * inner.diagonal().mean():
            return None  # a copy of it is there
        for first in range(min(DROPPED, len(order) - 2) + 1):
            some = order[first:]
            weights = _convex(inner[np.ix_(some, some)])
            kept = [place for place, weight in zip(some, weights, strict=True) if weight >= LEAST]
            found = self._fit(child, kept, LEAST, len(kept))
            if found is not None and found.left <= UNEXPLAINED * nearest:
                return _merge(found, kept, nearest)
        return None

    def _of_changes(self, child: int) -> Merge | None:
        """The nearest combination of two task vectors, and of more as long as all hold."""
        chosen = self._nearest_pair(child)
        if chosen is None:
            return None
        ancestor, parents = chosen
        found = self._even(child, parents, ancestor)
        if found is None:
            return None
        while more := self._one_more(child, parents, ancestor):
            parents, found = more
        away = self.unit[child] - self.unit[ancestor]
        return _merge(found, parents, float(away @ self.total @ away), ancestor)

    def _nearest_pair(self, child: int) -> tuple[int, list[int]] | None:
        """The ancestor and the two parents that leave least of the child."""
        best, least = None, np.inf
        for ancestor in range(len(self.nets)):
            others = self._candidates(child, ancestor)
            if len(others) < 2:
                continue
            away = self.unit[[*others, child]] - self.unit[ancestor]
            left, one, two = _pairs(away @ self.total @ away.T)
            place = int(np.argmin(left))
            if left[place] < least:
                best, least = (ancestor, [others[one[place]], others[two[place]]]), left[place]
        return best

    def _candidates(self, child: int, ancestor: int) -> list[int]:
        """Nets that left the ancestor as the child did, and were not made from the child."""
        if (ancestor, child) not in self.earlier:
            return []
        places = set(range(len(self.nets))) - {child}
        return [p for p in sorted(places) if (ancestor, p) in self.earlier and (child, p) not in self.earlier]

    def _one_more(self, child: int, parents: list[int], ancestor: int) -> tuple[list[int], Fit] | None:
        """The parents with the further one that leaves least, if all of them hold."""
        further = [[*parents, each] for each in self._candidates(child, ancestor) if each not in parents]
        fits = [(more, self._of_ancestor(child, more, ancestor)) for more in further]
        held = [(more, found) for more, found in fits if found is not None]
        if not held:
            return None
        more, _ = min(held, key=lambda each: each[1].left)
        found = self._even(child, more, ancestor)
        return None if found is None else (more, found)

    def _even(self, child: int, parents: Sequence[int], ancestor: int) -> Fit | None:
        found = self._of_ancestor(child, parents, ancestor)
        if found is None or unevenness(self.nets, self.products, child, parents, ancestor) > UNEVEN:
            return None
        return found

    def _of_ancestor(self, child: int, parents: Sequence[int], ancestor: int) -> Fit | None:
        return self._fit(child, [*parents, ancestor, self.products.origin], LEAST_CHANGE, len(parents))

    def _fit(self, child: int, points: Sequence[int], least: float, parents: int) -> Fit | None:
        """A fit in which the first ``parents`` points have weights that count."""
        try:
            found = fit(self.products, child, points)
        except UsageError:  # combinations of each other, or one point alone
            return None
        low = found.weights < np.maximum(least, CLEARLY * found.null)
        return None if low[:parents].any() else found


def _merge(found: Fit, parents: Sequence[int], size: float, ancestor: int | None = None) -> Merge:
    weights, null = (dict(zip(parents, each.tolist(), strict=False)) for each in (found.weights, found.null))
    return Merge(weights, null, found.left / size, ancestor)


def _convex(inner: Floats) -> Floats:
    """Weights, positive with sum 1, of the combination with the smallest norm; ``inner`` are the products."""
    scale = float(inner.diagonal().mean())
    values, vectors = np.linalg.eigh(inner / scale)
    root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    one = 1e4 * np.ones((1, len(inner)))  # as good as a constraint
    shares, _ = nnls(np.concatenate([root, one]), np.append(np.zeros(len(inner)), 1e4))
    return shares / shares.sum()


def _pairs(inner: Floats) -> tuple[Floats, np.ndarray, np.ndarray]:
    """What each two vectors leave of the last one's squared length, infinite for those that are nearly one vector."""
    one, two = np.triu_indices(len(inner) - 1, 1)
    a, b, both = inner[one, one], inner[two, two], inner[one, two]
    along, across = inner[one, -1], inner[two, -1]
    alike = both**2 >= (ALIKE**2) * a * b
    room = np.where(alike, 1.0, a * b - both**2)
    reached = (b * along**2 - 2 * both * along * across + a * across**2) / room
    return np.where(alike, np.inf, inner[-1, -1] - reached), one, two
