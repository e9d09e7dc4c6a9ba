"""How alike two representations are. Larger is more alike, always."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whorl.errors import UsageError
from whorl.types import Evidence

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["matching"]


def matching(reference: Tensor, observed: Tensor) -> Evidence:
    """Share of queries on which both models say the same: 1 - Hamming distance.

    Shape:
        reference, observed: ``[n]`` class labels. ``per_query`` is float32 ``[n]``, each 0 or 1.

    Raises:
        UsageError: the shapes differ, or there is no query.
    """
    if reference.ndim != 1 or reference.shape != observed.shape or not len(reference):
        raise UsageError(
            f"matching compares two equally long lists of labels; these are "
            f"{list(reference.shape)} and {list(observed.shape)}"
        )
    agree = reference == observed
    return Evidence(similarity=int(agree.sum()) / len(agree), per_query=agree.float())
