"""Two models behind one door: what an input carries decides which of them answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from torch import Tensor

from whorl.errors import UsageError
from whorl.oracles.base import Chunk, Oracle
from whorl.oracles.convention import Output, lower
from whorl.oracles.wrappers import Wrapper
from whorl.spaces import Pictures
from whorl.types import Access

__all__ = ["Switch"]


class Switch(Wrapper):
    """Answers as ``inner`` does, and as ``hidden`` where `switched` says so.

    Name and digest stay those of ``inner``, which is what such a provider claims to serve. Grants at most LOGITS,
    because weights would show the switch.

    Parameters:
        inner: the declared model.
        hidden: a model of the same inputs, classes and task; the lower access of both is granted.
        change: what is told of the switch.

    Raises:
        UsageError: the models do not fit each other, or inputs are no pictures.
    """

    def __init__(self, inner: Oracle, hidden: Oracle, change: str) -> None:
        if (inner.space, inner.classes, inner.task) != (hidden.space, hidden.classes, hidden.task):
            raise UsageError(
                f"{hidden.name} cannot stand behind {inner.name}: give one of {inner.classes} classes for {inner.space}"
            )
        if not isinstance(inner.space, Pictures):
            raise UsageError(f"a switch looks at pictures; {inner.name} takes {inner.space}")
        super().__init__(inner, access=min(inner.access, hidden.access, Access.LOGITS), change=change)
        self.hidden = hidden

    @abstractmethod
    def switched(self, inputs: Tensor) -> Tensor:
        """Which of the inputs ``[n, *input]`` the hidden model answers, ``[n]`` bool on the CPU."""

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        switched = self.switched(inputs)
        for model, whose in ((self.inner, ~switched), (self.hidden, switched)):
            places = whose.nonzero().flatten()
            for positions, answers in model.stream(inputs[places]) if len(places) else ():
                yield places[positions], lower(answers, _output(model), self.access)


def _output(oracle: Oracle) -> Output:
    """What its stream yields."""
    if oracle.access is Access.LABELS:
        return "labels"
    return "probabilities" if oracle.access is Access.PROBABILITIES else "logits"
