"""How many of a file's numbers were read, how many of them some test looked at, and why the others were left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

from whorl.checkpoints.roles import NONE, Weights

__all__ = ["Coverage", "coverage"]

TESTED: Final = frozenset({"gate", "up", "down", "value", "embedding"})
UNREAD: Final = "layers that were not read"
UNTESTED: Final = "parts with roles that no test looks at"


@dataclass(frozen=True)
class Coverage:
    """Shares of a file's ``numbers``, from 0 to 1: those in tensors of which at least some rows were ``read``, those in
    tensors that a test looked at, and the others by reason, the largest first. ``tested`` and ``left_out`` sum to 1.
    """

    numbers: int
    read: float
    tested: float
    left_out: dict[str, float]


def coverage(net: Weights, layers: Collection[int], tested: Collection[str], left_out: Mapping[str, str]) -> Coverage:
    """What was looked at in one of two nets.

    Parameters:
        layers: those with roles that were tested; tensors with roles all count as untested where there are none.
        tested: tensors without roles that some test looked at.
        left_out: the others, each with the reason.
    """
    entries = net.checkpoint.entries
    counts: Counter[str] = Counter()
    for name, reason in left_out.items():
        counts[reason] += prod(entries[name].shape)
    seen = sum(prod(entries[name].shape) for name in tested)
    named = {*tested, *left_out}
    roled = {part: key for key, part in net.structure.parts.items() if part.tensor not in named}
    for part, key in roled.items():
        size = prod(net.shape(*key)) if part.index is not None or part.rows else prod(entries[part.tensor].shape)
        if key.layer != NONE and key.layer not in layers:
            counts[UNREAD] += size
        elif key.role in TESTED and layers:
            seen += size
        else:
            counts[UNTESTED] += size
    total = max(1, net.checkpoint.parameters)
    shares = {reason: count / total for reason, count in counts.most_common() if count}
    return Coverage(net.checkpoint.parameters, 1 - shares.get(UNREAD, 0.0), seen / total, shares)
