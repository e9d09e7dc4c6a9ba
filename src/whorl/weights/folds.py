"""Norms that were folded: one of two nets has the gains of a norm inside of the matrices beside it.

A norm's gains may be multiplied into what reads its output (columns), those of a batch norm, over the deviations it
keeps, into the convolution before it (rows). The function stays, and number for number every matrix differs. Such a
pair is told by itself: one net has gains that differ, the other none or equal ones, and with them multiplied in the two
matrices are less than half as far from being one, times a number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.checkpoints.roles import Key, Weights
from whorl.weights.pairing import spread

__all__ = ["Factors", "reads_folded"]

HALF: Final = 0.25  # of the square
ROWS: Final = 64  # by which it is told
EPSILONS: Final = (1e-5, 1e-3)  # what batch norms add to a variance: the default of torch, and that of TensorFlow
VARIANCE: Final = "running_var"


def reads_folded(one: Weights, two: Weights, key: Key, other: Key) -> bool:
    """Whether a matrix and its partner are alike with the gains before them, of which one net alone has any."""
    gains = [net.gain(*place[:2]) for net, place in ((one, key), (two, other))]
    if any(each is None for each in gains) or _plain(gains[0]) == _plain(gains[1]):
        return False
    rows = spread(one.rows(*key), ROWS)
    nets = ((one, key), (two, other))
    raw = [net.read(*place, rows=rows) for net, place in nets]
    folded = [torch.cat(list(net.blocks(*place, rows))) for net, place in nets]
    return _nearer(folded[0], folded[1], raw[0], raw[1])


def _plain(gain: Tensor | None) -> bool:
    return gain is None or bool((gain == gain[0]).all())


def _nearer(one: Tensor, two: Tensor, ours: Tensor, theirs: Tensor) -> bool:
    return _apart(one, two) < HALF * _apart(ours, theirs)


def _apart(one: Tensor, two: Tensor) -> float:
    """Share of either that is not the other times a number: gains that only make one of them small are no help."""
    first, second = one.flatten().double(), two.flatten().double()
    sizes = float(first.square().sum() * second.square().sum())
    return 1 - float(first @ second) ** 2 / sizes if sizes else 1.0


class Factors:
    """Vectors of two nets without roles that one of them may have multiplied into a tensor of the same name."""

    def __init__(self, first: Checkpoint, second: Checkpoint) -> None:
        self.vectors = [_gains(net) for net in (first, second)]

    def applied(self, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor] | None:
        """Both tensors with the factors of one net multiplied in; None where none brings them near each other.

        Shape:
            ours, theirs: ``[rows, columns, ...]`` alike; so is what is returned, in float32.
        """
        pair = ours.float(), theirs.float()
        found = [*self._multiplied(pair)]
        best = min(found, key=lambda each: _apart(*each), default=None)
        return best if best is not None and _nearer(*best, *pair) else None

    def _multiplied(self, pair: tuple[Tensor, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        places = [1] * (pair[0].ndim - 2)
        for side in (0, 1):
            held, others = self.vectors[side], self.vectors[1 - side]
            for name, factors in held.items():
                if name in others and not all(_plain(each) for each in others[name]):
                    continue  # both have gains that differ
                for factor in factors:
                    for shape in ((-1, 1, *places), (1, -1, *places)):
                        if len(factor) == pair[0].shape[shape.index(-1)]:
                            made = factor.view(shape) * pair[side]
                            yield (pair[0], made) if side else (made, pair[1])


def _gains(net: Checkpoint) -> dict[str, list[Tensor]]:
    """Gains by the name of their module: of a batch norm over its deviations, of other norms as they are."""
    found: dict[str, list[Tensor]] = {}
    for name, entry in net.entries.items():
        module, _, word = name.rpartition(".")
        if word != "weight" or len(entry.shape) != 1 or entry.shape[0] < 2:
            continue
        gain, variance = net.read(name).float(), f"{module}.{VARIANCE}"
        if variance in net.entries:
            deviations = net.read(variance).float()
            found[module] = [gain / (deviations + epsilon).sqrt() for epsilon in EPSILONS]
        else:
            found[module] = [gain]
    return found
