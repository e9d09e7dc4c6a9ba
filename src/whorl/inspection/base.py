"""What every statistic that looks for trojans shares: a number for each class, and how it is come by.

A trojan makes one class easier to reach than the others. So a statistic gives each class a number that says how easily
it is reached, and the class that sticks out is the culprit. Whether it sticks out too far for a clean net is not for a
statistic to say: `whorl.detection.trojans` ranks it among clean nets.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.data.triggers import Overlay
from whorl.detection.trojans import Direction, culprit_of, log_ratio
from whorl.errors import AccessRefused, OracleError, UsageError
from whorl.oracles.base import Oracle, require
from whorl.oracles.torch import TorchOracle
from whorl.settings import Checked
from whorl.types import Access

__all__ = ["Inspection", "Scores", "Statistic", "counted"]

FEWEST = 3  # classes: with two, neither is what the other sticks out from


@dataclass(frozen=True, eq=False)
class Scores:
    """What a statistic finds.

    Shape:
        values: ``[classes]`` float64, finite and at least 0.
        masks: ``[classes, h, w]`` in [0, 1], patterns: ``[classes, c, h, w]`` in [0, 1]: the trigger that was found for
            each class; None where the statistic looks for none.
    """

    values: Tensor
    masks: Tensor | None = None
    patterns: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Inspection:
    """One net under one statistic.

    ``scores`` has a number for each class; ``log_ratio`` says how far that of the ``culprit`` lies from the median, in
    the direction ``worse``. ``trigger`` is what was inverted for the culprit, and ``success`` the share of held-out
    pictures of other classes that it turns into the culprit; None where the statistic inverts nothing.
    ``queries_spent`` counts every input that the net was asked, those of gradients included; ``seconds`` is wall time.
    """

    statistic: str
    scores: tuple[float, ...]
    worse: Direction
    culprit: int
    log_ratio: float
    digest: str
    accuracy: float
    trigger: Overlay | None
    success: float | None
    queries_spent: int
    seconds: float


class Statistic(Checked, ABC):
    """One statistic. Subclasses are frozen dataclasses whose fields are its settings.

    An author writes ``scores``; calling the statistic checks access and pictures, counts, draws from the seed and
    times.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    idea: ClassVar[str]
    blind: ClassVar[str]
    """What it is known, or was measured, not to find."""
    needs: ClassVar[Access]
    worse: ClassVar[Direction]
    """Whether a small or a large score speaks of a trojan."""
    pictures: ClassVar[int]
    """How many clean pictures it needs; none where 0."""

    @abstractmethod
    def scores(self, net: TorchOracle, data: Dataset, *, generator: torch.Generator) -> Scores:
        """A number for each class. ``data`` are clean pictures; the net stays untouched."""

    @final
    def __call__(self, net: Oracle, data: Dataset, *, seed: int = 0) -> Inspection:
        """Inspect one net; ``data`` are clean pictures with labels that it was not trained on.

        Half of them serve the statistic; on the other half accuracy and the success of an inverted trigger are
        measured. The same seed gives the same numbers for the same net on the same machine.

        Raises:
            AccessRefused: the net grants too little, or is no PyTorch net.
            UsageError: no classifier of at least three classes, other pictures than it takes, or too few.
            OracleError: what the net answers, or a score of it, is not finite.
        """
        net = self.check(net, data)
        generator = torch.Generator().manual_seed(seed)
        started, before = time.perf_counter(), net.queries_spent
        order = torch.randperm(len(data), generator=generator)
        seen, held_out = data.subset(order[: len(data) // 2]), data.subset(order[len(data) // 2 :])
        found = self.scores(net, seen, generator=generator)
        if not bool(found.values.isfinite().all()):
            raise OracleError(
                f"{net.name} has weights or answers that are NaN or infinite, of which {self.name} tells nothing"
            )
        values = tuple(found.values.double().tolist())
        culprit = culprit_of(values, self.worse)
        trigger = None
        if found.masks is not None and found.patterns is not None:
            trigger = Overlay(culprit, found.masks[culprit], found.patterns[culprit])
        return Inspection(
            statistic=self.name,
            scores=values,
            worse=self.worse,
            culprit=culprit,
            log_ratio=log_ratio(values, self.worse),
            digest=net.digest,
            accuracy=float((net.labels(held_out.inputs()) == held_out.labels).double().mean()),
            trigger=trigger,
            success=_success(net, held_out, trigger),
            queries_spent=net.queries_spent - before,
            seconds=time.perf_counter() - started,
        )

    @final
    def check(self, net: Oracle, data: Dataset) -> TorchOracle:
        """The net, if it can be inspected with these pictures; raises as the call does, and asks nothing."""
        require(net, self.needs, f"the statistic {self.name}")
        if not isinstance(net, TorchOracle):
            raise AccessRefused(f"{self.name} reads PyTorch nets; {net.name} is {type(net).__name__}: give its weights")
        if net.task != "classification" or net.classes < FEWEST:
            raise UsageError(
                f"a trojan makes one class stick out, and that takes a classifier of at least {FEWEST} classes; "
                f"{net.name} does {net.task} with {net.classes} outputs"
            )
        data.check_task(net.name, net.space, net.classes)
        if len(data) < (least := max(2, 2 * self.pictures)):
            raise UsageError(
                f"{self.name} needs {least} clean pictures, of which half are held out; these are "
                f"{len(data)}: give more, as of the parts queries+test"
            )
        return net


def counted(net: TorchOracle) -> Callable[[Tensor], Tensor]:
    """Inputs to logits with input gradients; every input counts as a query of ``net``."""
    function = net.differentiable()

    def ask(inputs: Tensor) -> Tensor:
        net.queries_spent += len(inputs)
        return function(inputs)

    return ask


def _success(net: Oracle, data: Dataset, trigger: Overlay | None) -> float | None:
    """Share of the pictures of other classes that the trigger turns into its target; None where there is nothing."""
    if trigger is None:
        return None
    others = data.labels != trigger.target
    if not bool(others.any()):
        return None
    stamped = replace(data, images=trigger.stamp(data.inputs())).subset(others)
    return float((net.labels(stamped.inputs()) == trigger.target).double().mean())
