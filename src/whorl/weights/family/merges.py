"""Nets that lie between others: merges, with the share that each parent has in them.

For each net B the convex combination of other nets that comes nearest to it, over rows that are read alike from all:
min |B - sum w_i theta_i| with w >= 0 and sum w = 1 (least squares with bounds: Lawson and Hanson 1974, chapter 23).
B is a merge where this leaves at most a tenth of the squared distance to its nearest single net, and each share is far
above what an unrelated direction would get.

That shares are positive is what makes B the child: if B = (S + T) / 2 then also S = 2 B - T, which is no average. It is
a reading all the same. A net halfway along another's training, whose second half went straight on, looks like an
average of the two ends; and of a merge that dropped or trimmed most changes, was tuned on or reordered, too much is
left unexplained, so that it hangs below a single net. On tiny language models linear merges and slerp are found with
shares within 0.001; TIES, DARE and a merge that was tuned on are not, and hang below a net near their parents.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from scipy.optimize import nnls

from whorl.weights.checkpoint import Checkpoint
from whorl.weights.pairing import spread
from whorl.weights.roles import Weights

__all__ = ["Merge", "merges_of", "products"]

ROWS: Final = 64  # of each tensor
UNEXPLAINED: Final = 0.1
LEAST: Final = 0.05  # the smallest share that counts
DROPPED: Final = 8  # nearest nets that are left out at most
CLEARLY: Final = 5.0  # standard deviations under the null
Plan = Mapping[Hashable, tuple[int, ...]]


@dataclass(frozen=True)
class Merge:
    """Parents of a net, by place, with their shares (positive, sum 1).

    ``null`` are the standard deviations of these shares for parents whose numbers are in random order. ``unexplained``
    is the part of the squared distance to the nearest single net that the merge leaves, from 0 to 1.
    """

    shares: Mapping[int, float]
    null: Mapping[int, float]
    unexplained: float


def products(nets: Sequence[Checkpoint]) -> tuple[np.ndarray, np.ndarray]:
    """Inner products of nets over sampled rows, [n, n], and over how many numbers, [n, n]: 0 for nets of other shapes.

    One tensor of each net is in memory at a time.
    """
    held = [_Parts(net) for net in nets]
    sums, counts = np.zeros((len(nets), len(nets))), np.zeros((len(nets), len(nets)), dtype=np.int64)
    for plan in {frozenset(each.plan.items()) for each in held}:
        group = [place for place, each in enumerate(held) if frozenset(each.plan.items()) == plan]
        if len(group) < 3:
            continue
        for key, _ in sorted(plan, key=repr):
            rows = torch.stack([held[place].rows(key) for place in group]).double().numpy()
            sums[np.ix_(group, group)] += rows @ rows.T
            counts[np.ix_(group, group)] += rows.shape[1]
    return sums, counts


class _Parts:
    """Tensors of a net by role, or by name where roles are not known."""

    def __init__(self, net: Checkpoint) -> None:
        self.net, self.weights = net, Weights(net)
        self.known = self.weights.structure.known
        self.plan: Plan = (
            {key: self.weights.shape(*key) for key in self.weights.structure.parts}
            if self.known
            else {name: entry.shape for name, entry in net.entries.items() if entry.shape}
        )

    def rows(self, key: Hashable) -> torch.Tensor:
        some = spread(self.plan[key][0], ROWS)
        value = self.weights.read(*key, rows=some) if isinstance(key, tuple) else self.net.read(str(key), some)
        return value.reshape(-1)


def merges_of(sums: np.ndarray, counts: np.ndarray) -> dict[int, Merge]:
    """Which nets are merges of which others, from `products`."""
    found = {}
    for child in range(len(sums)):
        group = [int(place) for place in np.flatnonzero(counts[child]) if place != child]
        if len(group) >= 2 and (merge := _merge(child, group, sums, int(counts[child, child]))) is not None:
            found[child] = merge
    return found


def _merge(child: int, group: Sequence[int], sums: np.ndarray, count: int) -> Merge | None:
    """The first fit that explains enough: to all nets, then without the nearest ones, which may be made from it."""
    offsets = np.zeros((len(group), len(sums)))
    offsets[np.arange(len(group)), list(group)] = 1
    offsets[:, child] -= 1
    inner = offsets @ sums @ offsets.T  # of theta_i - B
    order = np.argsort(inner.diagonal(), kind="stable")
    nearest = float(inner[order[0], order[0]])
    if nearest <= 1e-12 * sums[child, child]:
        return None  # a copy of it is there
    for first in range(min(DROPPED, len(group) - 2) + 1):
        chosen = order[first:]
        fit = _fit([group[place] for place in chosen], inner[np.ix_(chosen, chosen)], nearest, count)
        if fit is not None:
            return fit
    return None


def _fit(group: Sequence[int], inner: np.ndarray, nearest: float, count: int) -> Merge | None:
    kept = _convex(inner) >= LEAST
    if kept.sum() < 2:
        return None
    inner, group = inner[np.ix_(kept, kept)], [place for place, keep in zip(group, kept, strict=True) if keep]
    shares = _convex(inner)
    left = max(0.0, float(shares @ inner @ shares)) / nearest
    null = _null(inner, count)
    if left > UNEXPLAINED or bool((shares < np.maximum(LEAST, CLEARLY * null)).any()):
        return None
    return Merge(dict(zip(group, shares.tolist(), strict=True)), dict(zip(group, null.tolist(), strict=True)), left)


def _convex(inner: np.ndarray) -> np.ndarray:
    """Weights, positive with sum 1, of the combination with the smallest norm; ``inner`` are the products."""
    scale = float(inner.diagonal().mean())
    values, vectors = np.linalg.eigh(inner / scale)
    root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    one = 1e4 * np.ones((1, len(inner)))  # as good as a constraint
    shares, _ = nnls(np.concatenate([root, one]), np.append(np.zeros(len(inner)), 1e4))
    return shares / shares.sum()


def _null(inner: np.ndarray, count: int) -> np.ndarray:
    """How far a share strays from 0 by chance: |B - others| / |theta_i - others|, over the root of how many numbers."""
    spread_of = []
    for place in range(len(inner)):
        others = np.full(len(inner), 1 / (len(inner) - 1))
        others[place] = 0
        away = np.eye(len(inner))[place] - others
        spread_of.append(np.sqrt(others @ inner @ others / max(1e-300, away @ inner @ away) / count))
    return np.array(spread_of)
