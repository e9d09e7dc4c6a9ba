"""What every function of this room accepts as scores."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from whorl.errors import UsageError

__all__ = ["Scores", "as_scores"]

Scores: TypeAlias = NDArray[np.float64]


def as_scores(values: ArrayLike, name: str, *, least: int = 1) -> Scores:
    """``values`` as a flat float64 array, checked.

    Shape:
        values: ``[n]`` with n >= ``least``, finite. Returns ``[n]``.

    Raises:
        UsageError: the wrong shape, too few, or a score that is NaN or infinite; ``name`` says which scores.
    """
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise UsageError(f"{name} must be a flat list of scores; this has the shape {list(scores.shape)}")
    if len(scores) < least:
        raise UsageError(f"{name}: {len(scores)} given, at least {least} needed")
    if not bool(np.isfinite(scores).all()):
        raise UsageError(f"{name} hold a score that is NaN or infinite; leave out what could not be measured")
    return scores
