"""Oracles around oracles: what a provider does to its answers, and a hard limit on the questions.

They compose: ``LabelsOnly(Rounded(oracle, decimals=2))`` answers like an API that rounds and then keeps the class. Each
keeps the inner oracle's name, digest, input shape, classes and block, and yields chunks as the inner one yields them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from whorl.errors import BudgetExhausted, UsageError
from whorl.oracles.base import Chunk, Oracle, require
from whorl.oracles.torch import TorchOracle
from whorl.storage import digest_tensors
from whorl.types import Access

__all__ = [
    "Budgeted",
    "LabelsOnly",
    "Noisy",
    "Probabilities",
    "Rounded",
    "Temperature",
    "TopK",
    "Wrapper",
    "digests_of",
]

_TINY = torch.finfo(torch.float32).tiny  # stands for a probability of 0 where a logarithm or a quotient follows


class Wrapper(Oracle):
    """An oracle that passes every question on to ``inner``.

    ``treatment`` says how its answers differ from those of the innermost oracle, as in ``Rounded(decimals=2)``, and is
    empty where they do not differ. Answers recorded under one treatment are never replayed under another.

    Raises:
        AccessRefused: ``inner`` grants less than ``needs``.
    """

    needs = Access.LABELS

    def __init__(self, inner: Oracle, *, access: Access, change: str = "") -> None:
        require(inner, self.needs, type(self).__name__)
        super().__init__(
            access=access,
            input_shape=inner.space,
            classes=inner.classes,
            name=inner.name,
            digest=inner.digest,
            block=inner.block,
            task=inner.task,
        )
        self.inner = inner
        self.class_names = inner.class_names
        self.replayed = inner.replayed  # one account, wherever in the row of wrappers a record stands
        changes = (inner.treatment, change)
        self.treatment = " -> ".join(part for part in changes if part)

    def confirm(self, inputs: Tensor) -> None:
        """As whatever is wrapped does."""
        self.inner.confirm(inputs)


def digests_of(oracle: Oracle) -> tuple[str, ...]:
    """Digests by which a model is known again: of its weights, where they can be seen, and the one it was given."""
    while isinstance(oracle, Wrapper):
        oracle = oracle.inner
    found = [oracle.digest]
    if isinstance(oracle, TorchOracle) and oracle.access is Access.WEIGHTS:
        found.insert(0, digest_tensors(oracle.module.state_dict()))
    return tuple(dict.fromkeys(filter(None, found)))


class LabelsOnly(Wrapper):
    """Only the predicted class."""

    def __init__(self, inner: Oracle) -> None:
        super().__init__(inner, access=Access.LABELS, change="LabelsOnly")

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        for positions, answers in self.inner.stream(inputs):
            yield positions, answers if self.inner.access is Access.LABELS else answers.argmax(1)


class Probabilities(Wrapper):
    """A treatment of class probabilities; logits of the inner oracle go through a softmax first."""

    needs = Access.PROBABILITIES

    def __init__(self, inner: Oracle, *, change: str) -> None:
        super().__init__(inner, access=Access.PROBABILITIES, change=change)

    @abstractmethod
    def _treat(self, probabilities: Tensor) -> Tensor:
        """Probabilities ``[m, classes]`` as this provider gives them."""

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        for positions, answers in self.inner.stream(inputs):
            yield positions, self._treat(_as_probabilities(self.inner, answers))


class TopK(Probabilities):
    """The k largest probabilities; the others are 0.

    The rest is not scaled up, because APIs that list their best classes give those classes' own probabilities: a row
    then sums to less than 1. Of equal probabilities the lower class is kept.
    """

    def __init__(self, inner: Oracle, k: int) -> None:
        if not 1 <= k <= inner.classes:
            raise UsageError(f"TopK of {inner.name} needs k in 1..{inner.classes}; k is {k}")
        super().__init__(inner, change=f"TopK(k={k})")
        self.k = k

    def _treat(self, probabilities: Tensor) -> Tensor:
        kept = probabilities.argsort(dim=1, descending=True, stable=True)[:, : self.k]
        return torch.zeros_like(probabilities).scatter(1, kept, probabilities.gather(1, kept))


class Rounded(Probabilities):
    """Probabilities rounded to ``decimals`` places, not scaled back to a sum of 1."""

    def __init__(self, inner: Oracle, decimals: int) -> None:
        if decimals < 0:
            raise UsageError(f"Rounded of {inner.name} needs decimals of at least 0; decimals is {decimals}")
        super().__init__(inner, change=f"Rounded(decimals={decimals})")
        self.decimals = decimals

    def _treat(self, probabilities: Tensor) -> Tensor:
        return probabilities.round(decimals=self.decimals)


class Temperature(Probabilities):
    """Softmax of logits / ``temperature``: above 1 softer, below 1 sharper. The predicted class stays.

    From probabilities p this is p^(1/temperature), scaled to a sum of 1, which is the same thing.
    """

    def __init__(self, inner: Oracle, temperature: float) -> None:
        if not 0 < temperature < float("inf"):
            raise UsageError(f"Temperature of {inner.name} needs a temperature above 0; it is {temperature}")
        super().__init__(inner, change=f"Temperature(temperature={temperature})")
        self.temperature = temperature

    def _treat(self, probabilities: Tensor) -> Tensor:
        return (probabilities.clamp_min(_TINY).log() / self.temperature).softmax(1)


class Noisy(Probabilities):
    """Probabilities plus Gaussian noise of standard deviation ``scale``, cut at 0 and scaled to a sum of 1.

    The noise of a call is drawn before the first answer arrives, so it does not depend on the order of arrival.
    """

    def __init__(self, inner: Oracle, scale: float, generator: torch.Generator) -> None:
        if not 0 <= scale < float("inf"):
            raise UsageError(f"Noisy of {inner.name} needs a scale of at least 0; scale is {scale}")
        super().__init__(inner, change=f"Noisy(scale={scale})")
        self.scale = scale
        self.generator = generator

    def _treat(self, probabilities: Tensor) -> Tensor:
        probabilities = probabilities.clamp_min(_TINY)
        return probabilities / probabilities.sum(1, keepdim=True)

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        device = self.generator.device
        noise = self.scale * torch.randn(len(inputs), self.classes, generator=self.generator, device=device).cpu()
        for positions, answers in self.inner.stream(inputs):
            yield positions, self._treat(_as_probabilities(self.inner, answers) + noise[positions])


class Budgeted(Wrapper):
    """At most ``budget`` inputs in all, over every call.

    A call that asks for more gets the answers that the budget still pays for, then `BudgetExhausted`; no input beyond
    the budget ever reaches ``inner``. An input counts when it is handed to ``inner``, whether or not an answer arrives.
    Around a `Recorded` oracle replayed answers count too; inside one (``Recorded(Budgeted(oracle, 100), path)``) only
    questions that are really asked do.
    """

    def __init__(self, inner: Oracle, budget: int) -> None:
        if budget < 0:
            raise UsageError(f"the budget of {inner.name} must be at least 0; it is {budget}")
        super().__init__(inner, access=min(inner.access, Access.LOGITS))
        self.budget = budget
        self.asked = 0

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        affordable = inputs[: self.budget - self.asked]
        self.asked += len(affordable)
        if len(affordable):
            yield from self.inner.stream(affordable)
        if len(affordable) < len(inputs):
            raise BudgetExhausted(
                f"the budget of {self.budget} queries to {self.name} is spent; "
                f"{len(inputs) - len(affordable)} more are needed, so give a larger budget"
            )


def _as_probabilities(oracle: Oracle, answers: Tensor) -> Tensor:
    return answers if oracle.access is Access.PROBABILITIES else answers.softmax(1)
