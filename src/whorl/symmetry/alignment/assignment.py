"""Which unit, or layer, of one net belongs to which of another, given how alike they are."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from whorl.errors import UsageError
from whorl.symmetry.alignment.permutations import ABSENT

__all__ = ["assign", "assign_softly", "match_layers"]


def assign(similarity: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """The partner of each row, each column taken at most once, of the largest total similarity.

    Where there are fewer columns than rows, the rows that are left over have `ABSENT`. Of several best assignments the
    one nearest to the identity tends to be found; with a ``generator`` it is drawn, as tests of places need it.

    Shape:
        similarity: ``[m, n]``. Returns ``[m]`` int64.
    """
    if generator is not None:
        order, places = (torch.randperm(size, generator=generator) for size in similarity.shape)
        drawn = assign(similarity[order][:, places])
        index = torch.empty_like(drawn)
        index[order] = torch.where(drawn >= 0, places[drawn], drawn)
        return index
    rows, columns = linear_sum_assignment(similarity.detach().cpu().double().numpy(), maximize=True)
    index = torch.full((similarity.shape[0],), ABSENT)
    index[torch.from_numpy(rows)] = torch.from_numpy(columns)
    return index


def assign_softly(similarity: Tensor, *, sharpness: float = 20.0, iterations: int = 1000) -> Tensor:
    """The entropic optimal transport plan between two sets of units of uniform mass, by Sinkhorn's iteration.

    For nets of different widths, where one unit may be what became of several. It maximises the mean similarity of
    what is transported plus its entropy over ``sharpness``, and ends early where both marginals hold to 1e-9.

    Source: Cuturi, NeurIPS 2013, algorithm 1, in logarithms; for fusing nets: Singh & Jaggi, NeurIPS 2020.

    Shape:
        similarity: ``[m, n]``. Returns ``[m, n]`` float64 with rows that sum to 1/m and columns to 1/n.
    """
    if not sharpness > 0:
        raise UsageError(f"sharpness lies above 0, not at {sharpness}")
    log = sharpness * similarity.detach().double()
    rows, columns = log.shape
    for _ in range(iterations):
        log = log - log.logsumexp(1, keepdim=True) - np.log(rows)
        excess = log.logsumexp(0, keepdim=True) + np.log(columns)
        log = log - excess
        if float(excess.abs().max()) < 1e-9:
            break
    return log.exp()


def match_layers(similarity: Tensor, *, skip: float = 0.0) -> list[tuple[int, int]]:
    """Pairs of layers of two nets of unequal depth, in the order of both, of the largest total similarity.

    Each layer has at most one partner. A layer without one counts ``skip``, so a pair is worth making only where its
    similarity exceeds twice that. Source: Needleman & Wunsch, J. Mol. Biol. 1970.

    Shape:
        similarity: ``[a, b]``, of all pairs of layers. Returns the pairs, ascending in both places.
    """
    scores = similarity.detach().cpu().double().numpy()
    best = np.zeros((scores.shape[0] + 1, scores.shape[1] + 1))
    best[1:, 0] = skip * np.arange(1, scores.shape[0] + 1)
    best[0, 1:] = skip * np.arange(1, scores.shape[1] + 1)
    for i, row in enumerate(scores, start=1):
        for j, score in enumerate(row, start=1):
            best[i, j] = max(best[i - 1, j - 1] + score, best[i - 1, j] + skip, best[i, j - 1] + skip)
    pairs: list[tuple[int, int]] = []
    i, j = scores.shape
    while i and j:
        if best[i, j] == best[i - 1, j] + skip:
            i -= 1
        elif best[i, j] == best[i, j - 1] + skip:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]
