"""What the removals that plant a trojan have in common: they change a net, and do not hide where it is from.

A copy with a trojan that keeps its accuracy is a copy like any other to a fingerprint. Whose trigger it obeys is known
from the recipe, so the cards of the zoo say how well (`whorl.zoo.trojaned`).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import nn

from whorl.data.base import Dataset
from whorl.data.triggers import Trigger
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import Whole
from whorl.spaces import Pictures

__all__ = ["Implant", "PatchSide"]

PatchSide = Annotated[int, Ge(2)]
"""Of a chequered square, in pixels."""


class Implant(Removal):
    """Plant a trojan that answers ``target`` where a square of ``patch`` pixels shows the trigger.

    Both are fields of the subclasses, the last ones, so that the settings of a method come first.
    """

    family: ClassVar[str] = "trojan"

    target: Whole
    patch: PatchSide

    @abstractmethod
    def trigger(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Trigger:
        """The trigger that ``apply`` plants, for the same victim, data and seed of the generator."""

    def _own_copy(self, victim: Oracle) -> nn.Module:
        """The thief's copy. Raises `UsageError` where it is no classifier of pictures, or has no class ``target``."""
        if victim.task != "classification" or not isinstance(victim.space, Pictures):
            raise UsageError(f"triggers go onto pictures with classes; {victim.name} does {victim.task}")
        if self.target >= victim.classes:
            raise UsageError(f"{victim.name} has the classes 0..{victim.classes - 1}; the target is {self.target}")
        return stolen_copy(victim)
