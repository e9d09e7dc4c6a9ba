"""A classifier whose hidden units have ceilings, so that no single one of them can decide.

Paper: Wang, Xiang, Miller, Kesidis, *MM-BD: Post-Training Detection of Backdoor Attacks with Arbitrary Backdoor Pattern
Types Using a Maximum Margin Statistic*, IEEE S&P 2024, arXiv 2205.06900, where the bounds are the mitigation (MM-BM).
"""

from __future__ import annotations

from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.errors import UsageError
from whorl.nets.base import HiddenUnits, Net
from whorl.settings import NetName
from whorl.types import Task

__all__ = ["Capped", "Ceiling"]

START: Final = 8.0  # MM-BM's ceilings before they are learned


class Ceiling(nn.Module):
    """The least of what a layer makes and of its units' ceilings ``at``, ``[units]``."""

    at: Tensor

    def __init__(self, units: int) -> None:
        super().__init__()
        self.register_buffer("at", torch.full((units,), START))

    def forward(self, made: Tensor) -> Tensor:
        """Of ``[n, units, ...]``, the same shape."""
        return torch.minimum(made, self.at.view(-1, *[1] * (made.ndim - 2)))


class Capped(Net):
    """The net ``member``, each of whose hidden units answers at most its ceiling.

    Units of residual streams, which many layers write, have none. Ceilings stand before the ReLU, which makes no
    difference as they are not negative, and are buffers: no training but that of `whorl.removals.capping` moves them.

    Shape:
        forward: ``[n, c, h, w]`` in [0, 1] to logits ``[n, classes]``.
    """

    task: ClassVar[Task] = "classification"

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, member: NetName = "resnet8") -> None:
        from whorl.nets import NETS

        made = NETS.make(member, input_shape=input_shape, classes=classes)
        if not isinstance(made, Net) or made.task != "classification" or isinstance(made, Capped):
            raise UsageError(f"what has ceilings is a classifier of the catalog without any, not {member}")
        self._hold(made)

    @classmethod
    def of(cls, member: Net) -> Capped:
        """The net with ceilings that change nothing much yet; it is taken over, not copied.

        Raises `UsageError` where it names no hidden units.
        """
        net = cls.__new__(cls)
        net._hold(member)
        return net

    def _hold(self, member: Net) -> None:
        super().__init__(member.input_shape, member.classes)
        units = member.hidden_units()
        if not units:
            raise UsageError(f"ceilings stand on hidden units; {type(member).__name__} names none")
        names = {layer: name for name, layer in member.named_modules()}
        for each in units:
            last = (each.producer, *each.carriers)[-1]
            place, _, leaf = names[last].rpartition(".")
            setattr(member.get_submodule(place), leaf, nn.Sequential(last, Ceiling(each.count)))
        self.member = member

    @property
    def ceilings(self) -> dict[str, Tensor]:
        """The ceilings by the names of their buffers."""
        found = {name: module for name, module in self.named_modules() if isinstance(module, Ceiling)}
        return {f"{name}.at": module.at for name, module in found.items()}

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``[n, classes]``."""
        return self.member(inputs)

    def objective(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy."""
        del generator
        return cross_entropy(self(inputs), targets)

    def hidden_units(self) -> list[HiddenUnits]:
        """None: who permutes or scales units would have to move their ceilings."""
        return []

    def standardise(self, images: Tensor) -> None:
        """The member takes mean and spread from ``images`` ``[n, c, h, w]`` in [0, 1]."""
        self.member.standardise(images)
