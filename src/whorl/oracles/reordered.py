"""A model whose classes stand in another order than a fingerprint's, put into that order by their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from whorl.errors import UsageError
from whorl.oracles.base import Chunk, Oracle
from whorl.oracles.wrappers import Wrapper
from whorl.storage import one_line
from whorl.types import Access

__all__ = ["Reordered", "in_order_of", "with_same_names"]


class Reordered(Wrapper):
    """The same answers with the classes in another order.

    Grants at most LOGITS, because weights and features cannot be put into an order from outside. ``treatment`` names
    the order, so that answers which were recorded under another one are not replayed.

    Parameters:
        order: which class of ``inner`` stands at each place; every class once.
    """

    def __init__(self, inner: Oracle, order: Sequence[int]) -> None:
        if sorted(order) != list(range(inner.classes)):
            raise UsageError(f"the order of the classes of {inner.name} must name each of {inner.classes} once")
        change = f"Reordered({','.join(map(str, order))})"
        super().__init__(inner, access=min(inner.access, Access.LOGITS), change=change)
        if inner.class_names:
            self.class_names = tuple(inner.class_names[place] for place in order)
        self._order = torch.tensor(order)
        self._places = self._order.argsort()

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        for positions, answers in self.inner.stream(inputs):
            labels = self.access is Access.LABELS
            yield positions, self._places[answers] if labels else answers[:, self._order]


def in_order_of(oracle: Oracle, names: Sequence[str]) -> Oracle:
    """``oracle`` with its classes in the order of ``names``, a fingerprint's ``class_names``.

    The oracle itself where either side has no names, or where the order is the same.

    Raises:
        UsageError: the names are not the same; names the first that is missing.
    """
    own = oracle.class_names
    if not own or not names or own == tuple(names):
        return oracle
    places = {name: place for place, name in enumerate(own)}
    missing = next((name for name in names if name not in places), None)
    if missing is not None or len(names) != len(own):
        other = missing if missing is not None else next(name for name in own if name not in set(names))
        side = f"{oracle.name} has no class" if missing is not None else "the fingerprint has no class"
        listed = one_line(ValueError(", ".join(own)), 120)
        raise UsageError(
            f"{side} {one_line(ValueError(repr(other)), 60)}. The classes of {oracle.name} are {listed}: give the "
            "fingerprint's name of each, in this order, as in --set class_names=[...]"
        )
    return Reordered(oracle, [places[name] for name in names])


def with_same_names(oracle: Oracle, names: Sequence[str]) -> Oracle:
    """`in_order_of`, but for an oracle that calls its classes otherwise, which stays as it is."""
    return in_order_of(oracle, names) if set(oracle.class_names) == set(names) else oracle
