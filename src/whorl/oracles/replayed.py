"""Answers that are in memory already, as an oracle: what many schemes can share of one round of questions."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from whorl.errors import UsageError
from whorl.oracles.base import Chunk, Oracle
from whorl.spaces import InputSpace
from whorl.types import Access, Task

__all__ = ["Replayed"]


class Replayed(Oracle):
    """Answers about ``inputs`` and about nothing else.

    Shape:
        inputs: ``[n, *input]`` of ``space``.
        answers: ``[n]`` int64 labels, or ``[n, classes]`` float32: probabilities, logits, or `Oracle.scores`.

    Raises `UsageError` when asked about other inputs than the first of ``inputs``, in their order.
    """

    def __init__(
        self,
        inputs: Tensor,
        answers: Tensor,
        *,
        access: Access,
        space: InputSpace,
        classes: int,
        name: str,
        task: Task = "classification",
    ) -> None:
        super().__init__(access=access, input_shape=space, classes=classes, name=name, digest="", task=task)
        self._inputs = inputs
        self._answers = answers

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        count = len(inputs)
        if not torch.equal(inputs, self._inputs[:count]):
            raise UsageError(f"{self.name} was asked about {len(self._inputs)} inputs; these are others")
        yield torch.arange(count), self._answers[:count]
