"""How two nets of one training regime lie to each other: connected or not, alike or not.

These describe; none is evidence of descent, since independent nets trained on the same pictures may score high in all.

Source: Yang et al., *Taxonomizing local versus global structure in neural network loss landscapes*, NeurIPS 2021, arXiv
2107.11228, section 2. Its curvature is in `whorl.symmetry.alignment.curvature`, its barriers in
`whorl.symmetry.alignment.paths`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from whorl.errors import UsageError
from whorl.symmetry.alignment.paths import Profile

__all__ = ["agreement", "jensen_shannon", "linear_cka", "mode_connectivity"]


def mode_connectivity(along: Profile) -> float:
    """Mean loss of the ends minus the loss where a path is farthest from it.

    Below 0 a barrier stands between them, above 0 the ends are under-trained, near 0 they are well connected.
    """
    ends = (along.losses[0] + along.losses[-1]) / 2
    return float((ends - along.losses)[(ends - along.losses).abs().argmax()])


def linear_cka(one: Tensor, other: Tensor, *, debiased: bool = True) -> float:
    """Linear centred kernel alignment of two sets of features of the same inputs.

    The plain form lies in [0, 1] and nears 1 for any features where there are more of them than inputs. The debiased
    one has expectation near 0 for unrelated features, may be negative, and is at most 1.

    Source: Kornblith et al., ICML 2019, equation 4; unbiased HSIC: Song et al., JMLR 2012, equation 5.

    Shape:
        one, other: ``[n, d]`` and ``[n, e]``, n >= 4.

    Raises:
        UsageError: other shapes, or features that are the same for all inputs.
    """
    if one.ndim != 2 or other.ndim != 2 or len(one) != len(other) or len(one) < 4:
        raise UsageError(f"CKA compares [n, d] with [n, e], n >= 4, not {list(one.shape)} with {list(other.shape)}")
    grams = [each @ each.mT for each in (one.double() - one.double().mean(0), other.double() - other.double().mean(0))]
    hsic = _unbiased_hsic if debiased else lambda a, b: (a * b).sum()
    scale = [float(hsic(gram, gram)) for gram in grams]
    if min(scale) <= 0:
        raise UsageError("CKA is undefined for features that are the same for all inputs")
    return float(hsic(*grams)) / math.sqrt(scale[0] * scale[1])


def _unbiased_hsic(one: Tensor, other: Tensor) -> Tensor:
    """Of two Gram matrices ``[n, n]``, times n (n - 3), which cancels."""
    n = len(one)
    a, b = (gram - gram.diag().diag() for gram in (one, other))
    return (a * b).sum() + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 * (a.sum(0) @ b.sum(0)) / (n - 2)


def agreement(one: Tensor, other: Tensor) -> float:
    """Share of inputs that both nets put into the same class. Shape: logits ``[n, classes]``."""
    return float((one.argmax(1) == other.argmax(1)).double().mean())


def jensen_shannon(one: Tensor, other: Tensor) -> float:
    """Mean Jensen-Shannon divergence of the predicted distributions, in nats, from 0 to log 2.

    Shape:
        one, other: logits ``[n, classes]``.
    """
    logs = one.double().log_softmax(1), other.double().log_softmax(1)
    middle = torch.stack(logs).logsumexp(0) - math.log(2)
    halves = [(log.exp() * (log - middle)).nan_to_num(0.0).sum(1) for log in logs]
    return float(torch.stack(halves).sum(0).mean() / 2)
