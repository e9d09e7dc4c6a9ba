"""An oracle small enough to predict by hand: logits = scale * flattened input @ weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from whorl.errors import OracleError
from whorl.oracles.base import Chunk, Oracle
from whorl.types import Access

SHAPE = (1, 2, 3)
CLASSES = 4


def linear_weights(inputs: int, classes: int, seed: int = 0) -> Tensor:
    """Weights of a fixed linear model ``[inputs, classes]``."""
    return torch.randn(inputs, classes, generator=torch.Generator().manual_seed(seed))


class LinearOracle(Oracle):
    """Answers in chunks, last chunk first; logs what it was asked; fails after ``fail_after`` chunks where given."""

    def __init__(self, access=Access.LOGITS, *, digest="linear", chunk=4, fail_after=None, scale=1.0):
        super().__init__(
            access=access, input_shape=SHAPE, classes=CLASSES, name="linear", digest=digest, block=2 * chunk
        )
        self.weights = scale * linear_weights(6, CLASSES)
        self.chunk = chunk
        self.fail_after = fail_after
        self.asked: list[Tensor] = []

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        for count, positions in enumerate(reversed(torch.arange(len(inputs)).split(self.chunk))):
            if count == self.fail_after:
                raise OracleError("linear is down; try again")
            self.asked.extend(inputs[positions])
            logits = inputs[positions].flatten(1) @ self.weights
            if self.access is Access.LABELS:
                yield positions, logits.argmax(1)
            else:
                yield positions, logits.softmax(1) if self.access is Access.PROBABILITIES else logits


def pictures(count: int, seed: int = 1, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    """Inputs ``[count, *shape]`` in [0, 1]."""
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))
