"""Recurrent layers seen by their units: the gates of a unit side by side, as the places of a kernel are.

An LSTM holds the matrices of its four gates in one, [4h, inputs], a GRU those of three, and so does what it keeps from
step to step, [4h, h] (Hochreiter & Schmidhuber, 1997; PyTorch's, Paddle's and ONNX's layout: gate by gate). Rows of
such a matrix are no units: a unit is one row of each gate, and they may be permuted together alone. So the matrices
are handed out as [h, inputs, 4]. What a layer keeps has its units on both axes, in one order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Final

from torch import Tensor

from whorl.checkpoints.checkpoint import Checkpoint, Rows, UnusableTensor

__all__ = ["Cells"]

GATES: Final = (1, 3, 4)
KEEPS: Final = re.compile(r"(?<![A-Za-z\d])(hh|h2h|recurrent|hidden)(?![A-Za-z\d])")
FED: Final = {"hh": ("ih",), "h2h": ("i2h", "x2h"), "recurrent": ("input", ""), "hidden": ("input",)}


class Cells(Checkpoint):
    """A checkpoint with its recurrent matrices by units; ``kept`` are names of those with units on both axes.

    They are told by names and shapes: ``hh`` beside ``ih`` and the like, of equally many rows, which are 1, 3 or 4
    times the columns of the first.
    """

    format: ClassVar[str] = "cells"

    def __init__(self, inner: Checkpoint) -> None:
        self._inner = inner
        shapes = {name: entry.shape for name, entry in inner.entries.items()}
        pairs = {name: fed for name in shapes if (fed := _fed(name, shapes))}
        self.kept = frozenset(pairs)
        self._gates: dict[str, int] = {}
        for name, fed in pairs.items():
            rows, units = shapes[name]
            if rows > units:
                self._gates |= dict.fromkeys((name, fed), rows // units)
        entries = dict(inner.entries)
        for name, gates in self._gates.items():
            rows, columns = shapes[name]
            entries[name] = replace(entries[name], shape=(rows // gates, columns, gates))
        super().__init__(inner.path, entries, inner.config)

    def stored(self, name: str, rows: Rows | None = None) -> Tensor:
        """As of the checkpoint itself: a tensor that cannot be used is one of that, which others may leave out."""
        try:
            return super().stored(name, rows)
        except UnusableTensor:
            raise UnusableTensor(self._inner, name) from None

    def read(self, name: str, rows: Rows | None = None) -> Tensor:
        """The same."""
        try:
            return super().read(name, rows)
        except UnusableTensor:
            raise UnusableTensor(self._inner, name) from None

    def _stored(self, name: str, rows: Sequence[int] | None) -> Tensor:
        if name not in self._gates:
            return self._inner.stored(name, rows)
        value = self._inner.stored(name)
        value = value.unflatten(0, (self._gates[name], -1)).permute(1, 2, 0)
        return (value if rows is None else value[list(rows)]).contiguous()


def _fed(name: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The matrix that reads a layer's inputs, of one that reads what the layer keeps; empty where this is none."""
    shape = shapes[name]
    if len(shape) != 2 or not (word := KEEPS.search(name.replace("_", "."))):
        return ""
    others = (name[: word.start()] + other + name[word.end() :] for other in FED[word[1]])
    fits = (other for other in others if len(its := shapes.get(other, ())) == 2 and its[0] == shape[0])
    return next(fits, "") if shape[0] in [gates * shape[1] for gates in GATES] else ""
