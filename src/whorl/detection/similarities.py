"""How alike two representations are. Larger is more alike, always.

Class labels are compared by `matching` (per query) and `mutual_information` (the whole set); numbers by `cosine` (per
query where a query has several), `l1` and `l2` (the whole set). The four distances of the QuRD grid (Godinot et al.,
AAAI 2025, section on detection) are 1 - `matching`, 2 - 2 `cosine`, 1 / `l2` - 1 and 1 - `mutual_information`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from whorl.errors import UsageError
from whorl.types import Evidence

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["cosine", "l1", "l2", "matching", "mutual_information"]


def matching(reference: Tensor, observed: Tensor) -> Evidence:
    """Share of answers on which both models say the same: 1 - Hamming distance.

    Shape:
        reference, observed: ``[n]`` class labels, or ``[n, ...]`` where a query has several answers. ``per_query`` is
        float32 ``[n]``, the share of equal answers to each query: 0 or 1 where it has one.

    Raises:
        UsageError: the shapes differ, there is no query, or these are not labels.
    """
    _labels(reference, observed, "matching")
    agree = reference == observed
    return Evidence(int(agree.sum()) / agree.numel(), agree.float().reshape(len(agree), -1).mean(1))


def mutual_information(reference: Tensor, observed: Tensor) -> Evidence:
    """Information that the answers share, I(Y; Z) / min(H(Y), H(Z)) in [0, 1]: 1 - the distance of FBI.

    Blind to what the classes are called, so the models may have different ones. Where one model gives one answer
    throughout, no information can be shared: the similarity is 1 if the answers are identical, else 0. No single
    query has a share in it. (Maho, Furon, Le Merrer, *FBI*, arXiv 2208.03169, section on the information-theoretic
    distance; probabilities are frequencies, so few queries of many classes look alike by chance.)

    Shape:
        reference, observed: ``[n, ...]`` class labels.

    Raises:
        UsageError: the shapes differ, there is no query, or these are not labels.
    """
    _labels(reference, observed, "mutual information")
    if bool((reference == observed).all()):
        return Evidence(1.0)
    one, other = (np.unique(values.numpy(), return_inverse=True)[1].reshape(-1) for values in (reference, observed))
    entropies = _entropy(one), _entropy(other)
    if min(entropies) == 0:
        return Evidence(0.0)
    shared = sum(entropies) - _entropy(one * (int(other.max()) + 1) + other)
    return Evidence(min(max(shared / min(entropies), 0.0), 1.0))


def _entropy(labels: NDArray[np.int64]) -> float:
    """Entropy of the frequencies of ``labels``, in nats."""
    shares = np.unique(labels, return_counts=True)[1] / labels.size
    return max(float(-(shares * np.log(shares)).sum()), 0.0)


def cosine(reference: Tensor, observed: Tensor) -> Evidence:
    """Cosine of the angle between the answers to each query, as (1 + cos) / 2 in [0, 1].

    Two answers of length 0 are alike, one is at a right angle to anything.

    Shape:
        reference, observed: ``[n, ...]`` floats with ``per_query`` ``[n]``; of ``[n]``, where a query has one number,
        only the angle of the whole has a meaning, and ``per_query`` is None.

    Raises:
        UsageError: the shapes differ, there is no query, or these are labels.
    """
    _numbers(reference, observed, "cosine")
    one, other = (
        values.double().reshape(len(values) if values.ndim > 1 else 1, -1) for values in (reference, observed)
    )
    lengths, others = one.square().sum(1).sqrt(), other.square().sum(1).sqrt()
    angle = ((one * other).sum(1) / (lengths * others).clamp_min(1e-300)).clamp(-1, 1)
    angle[(lengths == 0) & (others == 0)] = 1
    alike = (1 + angle) / 2
    return Evidence(float(alike.mean()), alike.float() if reference.ndim > 1 else None)


def l2(reference: Tensor, observed: Tensor) -> Evidence:
    """Root-mean-square distance d of all numbers, as 1 / (1 + d) in (0, 1]: falling in d, which has no bound.

    Shape:
        reference, observed: ``[n, ...]`` floats. No ``per_query``: a root of a mean is no mean.

    Raises:
        UsageError: the shapes differ, there is no query, or these are labels.
    """
    _numbers(reference, observed, "l2")
    distance = float((reference.double() - observed.double()).square().mean().sqrt())
    return Evidence(1 / (1 + distance))


def l1(reference: Tensor, observed: Tensor) -> Evidence:
    """1 - mean absolute difference of numbers in [0, 1] (SAC: Guan, Liang, He, NeurIPS 2022, section 3).

    Shape:
        reference, observed: ``[n, ...]`` floats in [0, 1]. No ``per_query``: the rows of a correlation matrix depend
        on all queries.

    Raises:
        UsageError: the shapes differ, there is no query, or these are no numbers in [0, 1].
    """
    _numbers(reference, observed, "l1")
    for values in (reference, observed):
        if float(values.min()) < 0 or float(values.max()) > 1:
            raise UsageError(
                f"l1 compares numbers in [0, 1]; these span {float(values.min()):g}..{float(values.max()):g}: use l2"
            )
    return Evidence(1 - float((reference.double() - observed.double()).abs().mean()))


def _labels(reference: Tensor, observed: Tensor, what: str) -> None:
    _same_shape(reference, observed, what, "labels")
    if reference.is_floating_point() or observed.is_floating_point():
        raise UsageError(f"{what} compares class labels; these are {reference.dtype} and {observed.dtype}")


def _numbers(reference: Tensor, observed: Tensor, what: str) -> None:
    _same_shape(reference, observed, what, "numbers")
    if not (reference.is_floating_point() and observed.is_floating_point()):
        raise UsageError(f"{what} compares real numbers; these are {reference.dtype} and {observed.dtype}")


def _same_shape(reference: Tensor, observed: Tensor, what: str, things: str) -> None:
    if reference.ndim < 1 or reference.shape != observed.shape or not reference.numel():
        raise UsageError(
            f"{what} compares two equally long lists of {things}; these are "
            f"{list(reference.shape)} and {list(observed.shape)}"
        )
