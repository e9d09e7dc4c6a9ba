"""A model together with the access it grants.

An author of an oracle writes ``_stream``: ask the model about some inputs, yield answers as they arrive. The base
class checks inputs and answers, counts every input asked, and derives the lower levels of access once for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast, final

import torch
from torch import Tensor

from whorl.errors import AccessRefused, OracleError, UsageError
from whorl.spaces import InputSpace, Pictures
from whorl.types import Access, Grants, Task, grants, told

__all__ = ["Chunk", "Oracle", "Replays", "interface_of", "require"]

LEAST = 1e-12  # an interface that rounds gives probabilities of zero

Chunk = tuple[Tensor, Tensor]  # positions [m] int64 among the inputs asked, and their answers [m, ...]


@dataclass
class Replays:
    """What a record answered in a model's place.

    ``given`` counts replayed answers by the UTC time at which the model gave them, as in 2026-11-28T12:00:00Z;
    ``sentinels`` counts recorded answers that were asked again and found alike, ``unsteady`` those of a model that does
    not answer alike twice.
    """

    given: Counter[str] = field(default_factory=Counter[str])
    sentinels: int = 0
    unsteady: int = 0


class Oracle(ABC):
    """A model that answers about inputs of one space at one declared level of access.

    Parameters:
        access: what ``answers`` returns and what else may be asked.
        input_shape: (channels, height, width) where inputs are pictures, else their `InputSpace`.
        classes: number of classes, or of real outputs where the task has none.
        name: how messages and verdicts call this model.
        digest: content hash of the model, or its address where the content can't be seen.
        block: inputs worth asking in one round. None means all at once; a paid endpoint gives a small number, so
            that a sequential test can stop early.
        task: what the answers are. Only a classifier has labels and probabilities; the outputs of the others count
            as logits.
        beyond: grants that the ladder does not give at this level, such as ``features`` beside labels.
    """

    def __init__(
        self,
        *,
        access: Access,
        input_shape: tuple[int, ...] | InputSpace,
        classes: int,
        name: str,
        digest: str,
        block: int | None = None,
        task: Task = "classification",
        beyond: Grants = frozenset(),
    ) -> None:
        if task != "classification" and access < Access.LOGITS:
            raise UsageError(f"{name} is a {task} model, whose outputs count as LOGITS; {access.name} is too little")
        self.access = access
        self.beyond = beyond
        self.space = input_shape if isinstance(input_shape, InputSpace) else Pictures(tuple(input_shape))
        # Three sizes wherever inputs are pictures, which is what those who read it are for.
        self.input_shape: tuple[int, int, int] = cast(Any, self.space.shape)
        self.classes = classes
        self.name = name
        self.digest = digest
        self.block = block
        self.task: Task = task
        self.treatment = ""
        """How the answers differ from the model's own, where wrappers stand around it."""
        self.class_names: tuple[str, ...] = ()
        """The model's own names of its classes, in its order, where its description says them."""
        self.queries_spent = 0
        self.replayed = Replays()

    @property
    def grants(self) -> Grants:
        """Everything that may be asked: the level of access with those below it, and what lies beyond the ladder."""
        return grants(self.access, self.beyond)

    def confirm(self, inputs: Tensor) -> None:
        """Ask again, past any record, what was answered before, where it may be another model that answers by now.

        Whatever keeps no record of the answers has nothing to compare with, and asks nothing.

        Shape:
            inputs: ``[n, *input]``.

        Raises:
            OracleError: the model answers otherwise by now.
        """
        del inputs

    @abstractmethod
    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        """Yield (positions, answers) until every input is answered, in any order.

        Answers at access LABELS are int64 ``[m]``; at PROBABILITIES or above float32 ``[m, classes]``,
        probabilities at PROBABILITIES and logits above.
        """

    @final
    def stream(self, inputs: Tensor) -> Iterator[Chunk]:
        """Ask about ``inputs`` and yield checked answers as they arrive.

        Shape:
            inputs: ``[n, *input]`` of the model's `space`; for pictures ``[n, c, h, w]`` float32 in [0, 1].

        Raises:
            UsageError: the inputs do not fit the model.
            OracleError: an answer cannot be an answer.
        """
        if inputs.shape[1:] != self.space.shape or inputs.dtype != self.space.dtype:
            raise UsageError(
                f"{self.name} takes {str(self.space.dtype).removeprefix('torch.')} inputs "
                f"[n, {', '.join(map(str, self.space.shape))}]; these are "
                f"{str(inputs.dtype).removeprefix('torch.')} {list(inputs.shape)}"
            )
        for positions, answers in self._stream(inputs):
            self.queries_spent += len(positions)
            self._check(positions, answers)
            yield positions, answers

    @final
    def answers(self, inputs: Tensor) -> Tensor:
        """Answers at the declared level, in the order of the inputs.

        Shape:
            inputs: as in `stream`. Returns ``[n]`` int64 at LABELS, else ``[n, classes]`` float32.
        """
        shape = (len(inputs),) if self.access is Access.LABELS else (len(inputs), self.classes)
        result = torch.empty(shape, dtype=torch.int64 if self.access is Access.LABELS else torch.float32)
        missing = torch.ones(len(inputs), dtype=torch.bool)
        for positions, answers in self.stream(inputs):
            result[positions] = answers
            missing[positions] = False
        if missing.any():
            raise OracleError(f"{self.name} left {int(missing.sum())} of {len(inputs)} queries unanswered")
        return result

    @final
    def labels(self, inputs: Tensor) -> Tensor:
        """Predicted classes ``[n]`` int64."""
        self._require_classes("labels")
        answers = self.answers(inputs)
        return answers if self.access is Access.LABELS else answers.argmax(1)

    @final
    def probabilities(self, inputs: Tensor) -> Tensor:
        """Class probabilities ``[n, classes]``; refused below `Access.PROBABILITIES`."""
        require(self, Access.PROBABILITIES, "class probabilities")
        self._require_classes("probabilities")
        answers = self.answers(inputs)
        return answers if self.access is Access.PROBABILITIES else answers.softmax(1)

    @final
    def logits(self, inputs: Tensor) -> Tensor:
        """Class scores before softmax ``[n, classes]``; refused below `Access.LOGITS`."""
        require(self, Access.LOGITS, "logits")
        return self.answers(inputs)

    @final
    def scores(self, inputs: Tensor) -> Tensor:
        """Real answers of any task ``[n, classes]``; refused below `Access.PROBABILITIES`.

        Of a classifier, log-probabilities with mean zero: the logits up to what softmax forgets, so that they are the
        same whether the model gives logits or probabilities. Of other models, the outputs as they are.
        """
        require(self, Access.PROBABILITIES, "real-valued answers")
        answers = self.answers(inputs)
        if self.task != "classification":
            return answers
        logs = answers.clamp_min(LEAST).log() if self.access is Access.PROBABILITIES else answers
        return logs - logs.mean(1, keepdim=True)

    def _require_classes(self, what: str) -> None:
        if self.task != "classification":
            raise AccessRefused(f"{self.name} is a {self.task} model, which has no {what}")

    def _check(self, positions: Tensor, answers: Tensor) -> None:
        if self.access is Access.LABELS:
            if answers.shape != positions.shape:
                raise OracleError(
                    f"{self.name} gave labels of shape {list(answers.shape)} for {len(positions)} queries"
                )
            if len(answers) and not (0 <= int(answers.min()) and int(answers.max()) < self.classes):
                raise OracleError(
                    f"{self.name} gave a label outside 0..{self.classes - 1}: "
                    f"{int(answers.min())}..{int(answers.max())}"
                )
            return
        if answers.shape != (len(positions), self.classes):
            raise OracleError(
                f"{self.name} gave answers of shape {list(answers.shape)}; {[len(positions), self.classes]} are needed"
            )
        if not bool(answers.isfinite().all()):
            raise OracleError(f"{self.name} gave an answer that is NaN or infinite")


def require(oracle: Oracle, needed: Access | Grants, purpose: str) -> None:
    """Raise `AccessRefused` unless the oracle grants ``needed``, before anything is asked."""
    if not grants(needed) <= oracle.grants:
        raise AccessRefused(f"{purpose} needs {told(needed)}; {oracle.name} grants {told(oracle.grants)}")


def interface_of(oracle: Oracle) -> str:
    """How a model answers: what it grants, and how its answers are treated."""
    return " -> ".join(part for part in (told(oracle.grants), oracle.treatment) if part)
