"""The sum of kurtosis of a net's square attention matrices, by which MoTHer orders nets of one tree in time.

E. Horwitz, A. Shul and Y. Hoshen, "Unsupervised Model Tree Heritage Recovery" (arXiv 2405.18432), section 4: it grows
or falls along training, one way while a net is made general and the other while it is specialised. A figure beside
the answer, and no part of it: docs/lineage-measured.md says how often it orders the tiny language models right.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from torch import Tensor

from whorl.checkpoints.roles import Key, Weights
from whorl.weights.pairing import spread

__all__ = ["attention_kurtosis", "kurtosis"]

ROWS: Final = 128  # of each matrix
ATTENTION: Final = ("query", "key", "value", "output")


def kurtosis(values: Tensor) -> float:
    """The fourth central moment over the square of the second: 3 for normal numbers. NaN where all are equal."""
    apart = values.double() - values.double().mean()
    squares = apart.square()
    return float(squares.square().mean() / squares.mean().square())


def attention_kurtosis(net: Weights, layers: Iterable[int]) -> float | None:
    """Summed over the square ones of these layers, by some rows of each; None where there is none."""
    keys = [key for layer in layers for role in ATTENTION if (key := Key(role, layer)) in net]
    square = [key for key in keys if len(set(net.shape(*key))) == 1]
    return sum(kurtosis(net.read(*key, rows=spread(net.rows(*key), ROWS))) for key in square) if square else None
