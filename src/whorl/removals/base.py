"""What a thief does to a stolen model so that it is harder to recognise."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import ClassVar, final

import torch
from torch import nn

from whorl.data.base import Dataset
from whorl.errors import AccessRefused, UsageError
from whorl.expressions import Value
from whorl.oracles.base import Oracle, require
from whorl.oracles.torch import TorchOracle
from whorl.settings import Checked, named
from whorl.types import Access

__all__ = ["Removal", "head_of", "opened", "stolen_copy"]


class Removal(Checked, ABC):
    """One attack. Subclasses are frozen dataclasses whose fields are its settings, learning rates included.

    An author writes ``apply``; calling the removal checks access first. A field annotated as a
    `whorl.settings.TaskSource` is an expression of the thief's own data set: what ``apply`` is given, and what the
    outcome is measured on. One annotated as an `Architecture` is the net that comes out.
    """

    takes: ClassVar[str] = "net"
    gives: ClassVar[str] = "net"
    """The kind of model, as in `whorl.zoo.steps`."""
    family: ClassVar[str]
    """How tables group it: fine-tune, prune, quantise, extract, ..."""
    needs: ClassVar[Access] = Access.WEIGHTS
    """What the thief must have of the victim."""
    part: ClassVar[str] = "attacker"
    """The part of the data that a recipe gives ``apply`` unless it says otherwise."""

    @abstractmethod
    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module | Oracle:
        """What the thief ends up with. ``data`` is the thief's own; the victim stays untouched.

        It is a net, or, where the weights stay and the thief treats questions or answers, an oracle around the victim.
        """

    def outcome(self, architecture: str) -> str:
        """The architecture of the net that ``apply`` returns, from the victim's: its own, or the same."""
        own = named(type(self), vars(self), "architecture")
        return str(own[0] if own else architecture)

    @final
    @property
    def task(self) -> Value:
        """The thief's own data set, as an expression; None where it is the victim's."""
        own = named(type(self), vars(self), "task")
        return own[0] if own else None

    @final
    def __call__(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module | Oracle:
        """Check access, then apply."""
        require(victim, self.needs, f"the removal {type(self).__name__}")
        made = self.apply(victim, data, generator=generator)
        return made.eval() if isinstance(made, nn.Module) else made


def opened(made: nn.Module | Oracle, victim: Oracle, *, name: str) -> Oracle:
    """What a removal made of ``victim``, as an oracle with all the access that it grants."""
    if isinstance(made, Oracle):
        return made
    classes = int(getattr(made, "classes", victim.classes))
    return TorchOracle(made, input_shape=victim.input_shape, classes=classes, name=name, task=victim.task)


def stolen_copy(victim: Oracle) -> nn.Module:
    """The thief's own copy of the victim's weights."""
    if not isinstance(victim, TorchOracle):
        raise AccessRefused(f"this removal changes PyTorch weights; {victim.name} is {type(victim).__name__}")
    return copy.deepcopy(victim.module).eval()


def head_of(net: nn.Module) -> nn.Linear:
    """The last linear layer, by the name ``head`` or else the last one there is."""
    head = getattr(net, "head", None)
    if isinstance(head, nn.Linear):
        return head
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError(f"{type(net).__name__} has no linear layer, so it has no last layer to tune")
    return linear[-1]
