"""Served copies that treat their answers, so that neither a thief nor an ownership test learns much from them.

The weights stay as they were stolen, and answering is all that is left: each removal returns an oracle around the
victim that keeps its digest and grants labels, or probabilities where the treatment is of probabilities. Sources are
named with the treatments, in `whorl.oracles.wrappers` and `whorl.oracles.defended`. Whether the predicted class, and
with it any test by labels, survives is said for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.base import Net
from whorl.nets.training import build
from whorl.oracles.base import Oracle
from whorl.oracles.chance import seed_from
from whorl.oracles.defended import DetectsQueries, Lie, Poisoned, RandomAnswers, ReverseSigmoid, Shuffled
from whorl.oracles.wrappers import LabelsOnly, Rounded, Temperature, TopK
from whorl.removals.base import Removal
from whorl.settings import Count, NetName, Positive, Probability, Whole
from whorl.types import Access

__all__ = [
    "AnswerLabels",
    "AnswerPoisoned",
    "AnswerRandomly",
    "AnswerReverseSigmoid",
    "AnswerRounded",
    "AnswerShuffled",
    "AnswerSoftened",
    "AnswerTop",
    "DetectQueries",
]


@dataclass(frozen=True)
class AnswerLabels(Removal):
    """Only the predicted class; it stays. Access left: labels."""

    family: ClassVar[str] = "defend"
    needs: ClassVar[Access] = Access.LABELS

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Oracle:
        """The victim without its probabilities."""
        del data, generator
        return LabelsOnly(_classifier(victim))


class _Probabilities(Removal):
    """A treatment of probabilities. Access left: probabilities."""

    family: ClassVar[str] = "defend"
    needs: ClassVar[Access] = Access.PROBABILITIES


@dataclass(frozen=True)
class AnswerRounded(_Probabilities):
    """Probabilities rounded to ``decimals`` places. The class stays unless the two largest round alike."""

    decimals: Whole = 1

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Oracle:
        """The victim with rounded probabilities."""
        del data, generator
        return Rounded(_classifier(victim), self.decimals)


@dataclass(frozen=True)
class AnswerTop(_Probabilities):
    """The ``k`` largest probabilities, the others 0. The class stays."""

    k: Count = 3

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Oracle:
        """The victim with most probabilities withheld."""
        del data, generator
        return TopK(_classifier(victim), self.k)


@dataclass(frozen=True)
class AnswerSoftened(_Probabilities):
    """Probabilities at another ``temperature`` of the softmax. The class stays."""

    temperature: Positive = 4.0

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Oracle:
        """The victim with softer (above 1) or sharper probabilities."""
        del data, generator
        return Temperature(_classifier(victim), self.temperature)


@dataclass(frozen=True)
class AnswerShuffled(_Probabilities):
    """The ``k`` largest probabilities dealt at random among their classes. The class stays once in k times."""

    k: Annotated[int, Ge(2)] = 3

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Oracle:
        """The victim with shuffled probabilities."""
        del data
        return Shuffled(_classifier(victim), self.k, seed=seed_from(generator))


@dataclass(frozen=True)
class AnswerReverseSigmoid(_Probabilities):
    """The reverse sigmoid. The class stays but where the answer is flat."""

    beta: Probability = 0.7
    gamma: Positive = 0.2

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Oracle:
        """The victim with deceptive probabilities."""
        del data, generator
        return ReverseSigmoid(_classifier(victim), self.beta, self.gamma)


@dataclass(frozen=True)
class AnswerPoisoned(_Probabilities):
    """MAD within ``epsilon`` in L1, against an untrained ``surrogate`` of the catalog of nets.

    The class stays with ``keep_label``; without it and from ``epsilon`` about 1 on it changes.
    """

    epsilon: Annotated[float, Gt(0), Le(2)] = 0.5
    keep_label: bool = True
    surrogate: NetName = "mlp"

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Oracle:
        """The victim with poisoned probabilities."""
        surrogate = build(str(self.surrogate), _classifier(victim).input_shape, victim.classes, generator)
        if isinstance(surrogate, Net):
            surrogate.standardise(data.inputs())
        return Poisoned(victim, surrogate, self.epsilon, keep_label=self.keep_label)


@dataclass(frozen=True)
class AnswerRandomly(Removal):
    """A random answer with ``probability``. The class stays in all other answers.

    Access left: labels, or probabilities where the victim grants them.
    """

    family: ClassVar[str] = "defend"
    needs: ClassVar[Access] = Access.LABELS

    probability: Probability = 0.1

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Oracle:
        """The victim with random answers."""
        del data
        return RandomAnswers(_classifier(victim), self.probability, seed=seed_from(generator))


@dataclass(frozen=True)
class DetectQueries(Removal):
    """PRADA: true answers until the stream of questions looks made (W below ``delta``), then lies.

    The class stays until then and never afterwards. Access left: labels, or probabilities where the victim grants them;
    to lie with the ``runner-up`` needs probabilities, to lie with a ``permuted`` class needs labels.
    """

    family: ClassVar[str] = "defend"
    needs: ClassVar[Access] = Access.LABELS

    delta: Probability = 0.9
    lie: Lie = "runner-up"

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Oracle:
        """The watchful victim, which remembers every question from here on."""
        del data, generator
        return DetectsQueries(_classifier(victim), self.delta, self.lie)


def _classifier(victim: Oracle) -> Oracle:
    if victim.task != "classification":
        raise UsageError(f"defences treat the classes that a model answers with; {victim.name} does {victim.task}")
    return victim
