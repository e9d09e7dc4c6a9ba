"""What colluders make of their copies of one code, for simulations: the strategies that tracing is measured against.

Where all copies agree on a bit the colluders don't see it and keep it (the marking assumption), but for noise.

Source: the strategies named by Tardos, J. ACM 55, 2008, and Furon, Guyader & Cerou, Information Hiding 2008.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from whorl.errors import UsageError

__all__ = ["STRATEGIES", "collude"]

Bits = NDArray[np.uint8]
Floats = NDArray[np.float64]

NOISE: Final = 0.05  # standard deviation, in units of a bit


def collude(rows: Bits, strategy: str, generator: np.random.Generator) -> Floats:
    """What is observed of a copy that was made of others.

    Shape:
        rows: ``[c, m]`` of 0 and 1. Returns ``[m]`` in [0, 1].

    Raises:
        UsageError: another strategy than those of `STRATEGIES`, or no copy.
    """
    if strategy not in STRATEGIES or not len(rows):
        raise UsageError(f"one copy or more are mixed by {', '.join(STRATEGIES)}, not {len(rows)} by {strategy!r}")
    return STRATEGIES[strategy](rows, generator)


def _majority(rows: Bits, generator: np.random.Generator) -> Floats:
    share: Floats = rows.mean(0)
    coins = _uniform(rows, generator) < 0.5
    return np.where(share == 0.5, coins, share > 0.5).astype(np.float64)


def _minority(rows: Bits, generator: np.random.Generator) -> Floats:
    share = rows.mean(0)
    unseen = (share == 0) | (share == 1)
    return np.where(unseen, share, 1 - _majority(rows, generator))


def _interleaved(rows: Bits, generator: np.random.Generator) -> Floats:
    whose = (_uniform(rows, generator) * len(rows)).astype(np.int64)
    return rows[whose, np.arange(rows.shape[1])].astype(np.float64)


def _all_ones(rows: Bits, generator: np.random.Generator) -> Floats:
    del generator
    return rows.max(0).astype(np.float64)


def _averaged(rows: Bits, generator: np.random.Generator) -> Floats:
    noise: Floats = cast(Any, generator).standard_normal(rows.shape[1])
    share: Floats = rows.mean(0) + NOISE * noise
    return np.minimum(np.maximum(share, 0), 1)


def _uniform(rows: Bits, generator: np.random.Generator) -> Floats:
    drawn: Floats = cast(Any, generator).random(rows.shape[1])
    return drawn


STRATEGIES: Final[dict[str, Callable[[Bits, np.random.Generator], Floats]]] = {
    "majority": _majority,
    "minority": _minority,
    "interleaving": _interleaved,
    "all ones": _all_ones,
    "averaging with noise": _averaged,
}
"""By name: ``[c, m]`` bits and a generator to ``[m]`` in [0, 1]."""
