"""What turns answers into something to compare, and what compares it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

from torch import Tensor

from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.settings import Checked
from whorl.spaces import InputSpace
from whorl.types import Access, Asked, Evidence, Queries, Representation

__all__ = ["Comparer", "Representer", "ask"]


Held = Literal["classes", "numbers", "shares"]
"""Labels, real numbers, or numbers in [0, 1]."""


class Representer(Checked, ABC):
    """Turns an oracle's answers to queries into something to compare."""

    needs_suspect: ClassVar[Access]
    """Access to the suspect at verification."""
    per_query: ClassVar[bool] = True
    """Whether each query can be represented alone, so that a test may stop early."""
    values: ClassVar[Layout]
    """What the representation is as a tensor."""
    any_classes: ClassVar[bool] = False
    """Whether a suspect may have another number of classes, or another task, than the victim."""

    any_task: ClassVar[bool] = False
    """Whether it holds the answers of models that have no classes too."""
    takes: ClassVar[Asked | None] = None
    """What a query must ask for the representation to exist, where a picture is not enough."""
    holds: ClassVar[Held | None] = None
    """What it is made of; None where an author has not said."""

    @abstractmethod
    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """Ask the oracle about the queries."""


class Comparer(Checked, ABC):
    """Says how alike two representations of the same queries are."""

    compares: ClassVar[tuple[Held, ...]] = ()
    """What it can compare; empty where an author has not said."""

    @abstractmethod
    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """Larger is more alike; ``reference`` is the victim's."""


def ask(answers: Callable[[Tensor], Tensor], inputs: Tensor, space: InputSpace) -> Tensor:
    """Ask about queries of several inputs each, all in one batch.

    Parameters:
        answers: a method of an oracle, such as ``oracle.scores``.
        space: that oracle's.

    Shape:
        inputs: ``[n, *input]`` or ``[n, m, *input]``. Returns ``[n, ...]`` or ``[n, m, ...]``.
    """
    found = answers(space.flat(inputs))
    return found if space.each(inputs) is None else found.unflatten(0, inputs.shape[:2])
