"""How alike the attention of two nets is once their streams have been turned onto each other: an effect size, no test.

AWM (ICLR 2026, arXiv 2510.06738) aligns the axes of two residual streams by their embeddings and takes the unbiased
CKA of query and of key matrices over axes. It matches axes one to one, which a rotation of the stream evades; here the
streams are aligned by the orthogonal Procrustes rotation of their shared tokens (P. Schoenemann, Psychometrika 1966),
which undoes it, as the polar factor of MDIR does (arXiv 2508.06309). Gains of norms are folded in. Queries and keys
are compared on their own, by Gram matrices over axes in which all heads are summed, so that the order of heads, their
groups, and what mixes axes inside of a head by a rotation make no difference.

Nobody knows beforehand what strangers have: layers of the same two nets that do not belong together are the control.

Cost: of wide streams the span of `SPAN` shared tokens is compared, whose axes turn with the stream; so the rotation is
of at most `SPAN` axes and takes well under a second whatever the width. Each matrix is read once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from whorl.checkpoints.roles import NONE, Key, Weights
from whorl.weights.pairing import Basis, basis, spread

__all__ = ["Likeness", "likeness", "procrustes", "unbiased_cka"]

SPAN: Final = 512  # axes that are compared, at most
TOKENS: Final = 2048  # by which the streams are turned onto each other
LAYERS: Final = 2  # of those that were read; more cost more reading
ROLES: Final = ("query", "key")
FLAT: Final = 1e-3  # of the largest spread of tokens: below lies the mean that was taken away


@dataclass(frozen=True)
class Likeness:
    """Mean unbiased CKA of query and key matrices: of layers that belong together, and of all others.

    ``aligned`` and ``off_path`` are at most 1 and near 0 or a little above for strangers; ``off_path`` is None where
    one layer was read. ``layers`` are those of A and B, ``matrix`` holds the value of each pair of them.
    """

    aligned: float
    off_path: float | None
    layers: tuple[tuple[int, int], ...]
    matrix: tuple[tuple[float, ...], ...]


def likeness(first: Weights, second: Weights, layers: Mapping[int, int], *, most: int = LAYERS) -> Likeness | None:
    """Of ``most`` of these layers of A and those of B that belong to them. None where there is nothing to compare.

    Raises `UsageError` where both have vocabularies that share no tokens.
    """
    pairs = [
        pair
        for pair in layers.items()
        if all(Key(role, layer) in net for net, layer in zip((first, second), pair, strict=True) for role in ROLES)
    ]
    axes = basis(first, second, TOKENS) if pairs else None
    if axes is None:
        return None
    pairs = [pairs[place] for place in spread(len(pairs), most)]
    turned = procrustes(axes) if axes.tokens else _same_axes(first.structure.width)
    values = torch.zeros(len(pairs), len(pairs))
    for role in ROLES:
        ours = [_gram(first, role, layer, turned[0]) for layer, _ in pairs]
        for column, (_, paired) in enumerate(pairs):
            theirs = _gram(second, role, paired, turned[1])
            values[:, column] += torch.tensor([unbiased_cka(each, theirs) for each in ours]) / len(ROLES)
    count = len(pairs)
    same = torch.tensor([[one == two for _, two in pairs] for _, one in pairs])
    off = values[~same]
    return Likeness(
        aligned=float(values.diagonal().mean()),
        off_path=float(off.mean()) if count > 1 and len(off) else None,
        layers=tuple(pairs),
        matrix=tuple(tuple(row) for row in values.tolist()),
    )


def procrustes(axes: Basis) -> tuple[Tensor, Tensor]:
    """Maps of both streams onto axes in which the shared tokens of both lie as near to each other as they can.

    The axes span at most `SPAN` tokens, and are turned at random at the end: unbiased CKA leaves out what an axis has
    with itself, which must not be special.

    Shape:
        returns ``[width of A, k]`` and ``[width of B, k]``.
    """
    assert axes.ours is not None
    assert axes.theirs is not None
    ours, theirs = _span(axes.ours), _span(axes.theirs)
    left, _, right = torch.linalg.svd((ours.T @ axes.ours) @ (theirs.T @ axes.theirs).T, full_matrices=False)
    turn = _turn(left.shape[1], left.shape[1])
    return ours @ left @ turn, theirs @ right.T @ turn


def unbiased_cka(one: Tensor, two: Tensor) -> float:
    """Of two Gram matrices over the same things, by the unbiased HSIC (Song et al., JMLR 2012, equation 5).

    Shape:
        one, two: ``[n, n]`` with n > 3.
    """
    grams = [gram - gram.diag().diag() for gram in (one.double(), two.double())]
    count = len(one)

    def hsic(a: Tensor, b: Tensor) -> float:
        cross = (a * b).sum() + a.sum() * b.sum() / ((count - 1) * (count - 2))
        return float(cross - 2 * (a.sum(0) @ b.sum(0)) / (count - 2))

    return hsic(*grams) / max(1e-300, hsic(grams[0], grams[0]) * hsic(grams[1], grams[1])) ** 0.5


def _span(embedded: Tensor) -> Tensor:
    """An orthonormal basis of what some of the tokens span, by their Gram matrix: [width, at most `SPAN`]."""
    some = embedded[:, spread(embedded.shape[1], SPAN)].double()
    if len(some) <= some.shape[1]:
        values, vectors = torch.linalg.eigh(some @ some.T)
        return vectors[:, values > FLAT**2 * values[-1]].float()
    values, vectors = torch.linalg.eigh(some.T @ some)
    kept = values > FLAT**2 * values[-1]
    return (some @ vectors[:, kept] / values[kept].sqrt()).float()


def _same_axes(width: int) -> tuple[Tensor, Tensor]:
    """Without tokens the axes of two streams of one width are taken for the same."""
    turn = _turn(width, min(width, SPAN))
    return turn, turn


def _turn(count: int, wide: int) -> Tensor:
    """Orthonormal columns, drawn at random: [count, wide]."""
    return torch.linalg.qr(torch.randn(count, wide, generator=torch.Generator().manual_seed(0))).Q


def _gram(net: Weights, role: str, layer: int, axes: Tensor) -> Tensor:
    """Over axes, summed over the rows of a matrix: [k, k]."""
    found = torch.zeros(axes.shape[1], axes.shape[1])
    for block in net.blocks(role, layer, NONE, range(net.rows(role, layer))):
        seen = block @ axes
        found += seen.T @ seen
    return found
