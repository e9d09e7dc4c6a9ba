"""How a model's answers were treated before they were given, read from the answers; and the same done to others.

A model that is served rounds its probabilities, gives the best few, or one row of 0 and 1. The same weights then look
less alike to themselves than strangers that don't; so a suspect is ranked among models whose answers were treated as
its own are. A treatment is named as wrappers name it: ``TopK(k=5) -> Rounded(decimals=3)``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

from torch import Tensor
from torch.nn.functional import one_hot

from whorl.errors import OracleError, UsageError
from whorl.expressions import parse
from whorl.oracles.base import Chunk, Oracle
from whorl.oracles.wrappers import Rounded, TopK, Wrapper
from whorl.types import Access

__all__ = [
    "ONE_HOT",
    "USUAL",
    "OneHot",
    "Remembered",
    "Softmaxed",
    "Unasked",
    "are_probabilities",
    "check_treatment",
    "treated",
    "treatment_of",
]

DECIMALS: Final = 6
ONE_HOT: Final = "OneHot"
"""The treatment that leaves labels alone, which is how labels are read where a null was measured through it."""
USUAL: Final = (
    *(f"Rounded(decimals={decimals})" for decimals in range(1, DECIMALS + 1)),
    *(f"TopK(k={k})" for k in (1, 3, 5)),
    ONE_HOT,
)
"""Treatments that a null is measured through, beside no treatment."""


class OneHot(Wrapper):
    """1 for the predicted class and 0 for the others: labels in the shape of probabilities.

    What a model grants beyond its labels is not looked at, so a model of which only labels are seen answers the same.
    """

    def __init__(self, inner: Oracle) -> None:
        super().__init__(inner, access=Access.PROBABILITIES, change=ONE_HOT)

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        for positions, answers in self.inner.stream(inputs):
            labels = answers if self.inner.access is Access.LABELS else answers.argmax(1)
            yield positions, one_hot(labels, self.classes).float()


class Softmaxed(Wrapper):
    """What was declared as logits and is probabilities: the same answers under their right name."""

    def __init__(self, inner: Oracle) -> None:
        super().__init__(inner, access=Access.PROBABILITIES)

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        yield from self.inner.stream(inputs)


class Unasked(Oracle):
    """A model that is not there yet: what would be refused of it is refused before it is made."""

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        raise OracleError(f"{self.name} is not made yet and answers none of {len(inputs)} queries")


class Remembered(Wrapper):
    """Answers are kept in memory, so that several treatments of them cost one round of questions."""

    def __init__(self, inner: Oracle) -> None:
        super().__init__(inner, access=min(inner.access, Access.LOGITS))
        self._known: dict[bytes, list[Chunk]] = {}

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        key = hashlib.sha256(inputs.cpu().contiguous().numpy().data).digest()
        if key not in self._known:
            self._known[key] = list(self.inner.stream(inputs))
        yield from self._known[key]


TREATMENTS: Final[Mapping[str, Callable[..., Oracle]]] = {ONE_HOT: OneHot, "Rounded": Rounded, "TopK": TopK}


def treated(oracle: Oracle, treatment: str) -> Oracle:
    """The oracle behind an interface of this treatment.

    Raises:
        UsageError: no such treatment; says which there are.
        AccessRefused: the oracle gives no probabilities.
    """
    for step in treatment.split("->") if treatment else ():
        call = parse(step.strip())
        if call.name not in TREATMENTS:
            raise UsageError(f"no such treatment of answers: {call.name!r}. There are {', '.join(TREATMENTS)}")
        values = (*call.args, *dict(call.kwargs).values())
        try:
            if any(type(value) is not int for value in values):
                raise TypeError
            oracle = TREATMENTS[call.name](oracle, *cast(Any, call.args), **cast(Any, dict(call.kwargs)))
        except TypeError:
            raise UsageError(f"{step.strip()!r} is no treatment; the usual ones are {', '.join(USUAL)}") from None
    return oracle


def check_treatment(treatment: str, classes: int) -> None:
    """Raise `UsageError` unless this treats the answers of models of so many classes."""
    name = f"a model of {classes} classes"
    treated(Unasked(access=Access.LOGITS, input_shape=(1, 1, 1), classes=classes, name=name, digest=""), treatment)


def are_probabilities(answers: Tensor) -> bool:
    """Whether rows ``[p, k]`` are probabilities: none below 0 or above 1, and sums of 1 but for rounding."""
    if answers.ndim != 2 or not len(answers) or not bool(((answers >= 0) & (answers <= 1)).all()):
        return False
    return bool(((answers.sum(1) - 1).abs() <= 0.005 * answers.shape[1]).all())


def treatment_of(answers: Tensor) -> str:
    """How probabilities were treated: rounded to so many decimals, cut to the best few, or made rows of 0 and 1.

    Empty where nothing of that shows. From a few answers a coarser treatment can look like a finer one; from a hundred
    and more it can't, for one value that lies between two steps is enough.

    Shape:
        answers: ``[p, k]`` float32.
    """
    if not len(answers) or not bool(((answers >= 0) & (answers <= 1)).all()):
        return ""
    values = answers.double()
    if bool(((values == 0) | (values == 1)).all()):
        return ONE_HOT
    decimals = next((d for d in range(1, DECIMALS + 1) if _rounded(values, d)), None)
    step = 10.0**-decimals if decimals else 1e-6
    counts = (values > 0).sum(1)
    k = int(counts.max())
    # Rounding takes small probabilities away too; only a cut takes away more than rounding can.
    missing = (1 - values.sum(1) > 0.5 * step * answers.shape[1] + 1e-6)[counts == k]
    steps = [f"TopK(k={k})"] if k < answers.shape[1] and bool(missing.any()) else []
    return " -> ".join([*steps, *([f"Rounded(decimals={decimals})"] if decimals else [])])


def _rounded(values: Tensor, decimals: int) -> bool:
    step = 10.0**-decimals
    away = (values / step - (values / step).round()).abs()
    # A float32 near 1 is known to 6e-8; what is not 0 and lies below half a step was never rounded to it.
    return bool((away <= 1.2e-7 / step + 1e-6).all()) and not bool(((values > 0) & (values < 0.4 * step)).any())
