"""Architectures of one's own: code outside of whorl that makes a net, named as ``my_nets:make``.

Nothing here asks for consent: `whorl.nets.NETS` makes what was admitted to it, and whoever admits a name has consented.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.errors import UsageError
from whorl.expressions import Call
from whorl.nets.base import HiddenUnits, Net, refuse_incomplete
from whorl.storage import one_line
from whorl.types import Task

__all__ = ["Own", "bound", "current_folder", "draw", "found", "made"]


class Own(Net):
    """A plain module that gives logits, as a net that can be trained and stored.

    Inputs are normalised by channel before they reach it. Its weights stay as they lie in its own code, which may
    flatten by ``view``.
    """

    task: ClassVar[Task] = "classification"
    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__(input_shape, classes)
        self.module = module
        self.register_buffer("mean", torch.zeros(input_shape[0], 1, 1))
        self.register_buffer("std", torch.ones(input_shape[0], 1, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``[n, classes]`` of inputs ``[n, c, h, w]`` in [0, 1]."""
        normalised = (inputs - self.mean) / self.std
        return self.module(normalised.clone(memory_format=torch.contiguous_format))

    def objective(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy."""
        del generator
        return cross_entropy(self(inputs), targets)

    def hidden_units(self) -> list[HiddenUnits]:
        """None: which layer reads which is not known."""
        return []

    def standardise(self, images: Tensor) -> None:
        """Take mean and spread per channel from ``images`` ``[n, c, h, w]`` in [0, 1]."""
        self.mean.copy_(images.mean((0, 2, 3)).view(-1, 1, 1))
        self.std.copy_(images.std((0, 2, 3)).clamp_min(1e-3).view(-1, 1, 1))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        for parameter in self.parameters():  # cloned, as contiguous() leaves the strides of a single channel
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        return self


def found(name: str) -> Callable[..., Any]:
    """The callable ``module:attribute``; the module is looked for in the current folder too, and is run.

    Raises `UsageError` where there is none, or its code fails.
    """
    place, _, attribute = name.partition(":")
    try:
        with current_folder():
            return getattr(importlib.import_module(place), attribute)
    except Exception as error:  # trusted code may fail in any way
        raise UsageError(f"{name} failed: {type(error).__name__}: {one_line(error)}") from error


def bound(function: Callable[..., Any], call: Call, *, fixed: tuple[str, ...]) -> Call:
    """The call with every given parameter by name; what it leaves out is in the code. Raises `UsageError`."""
    known = [key for key in inspect.signature(function).parameters if key not in fixed]
    given = dict(zip(known, call.args, strict=False)) | dict(call.kwargs)
    if len(call.args) + len(call.kwargs) > len(given) or not given.keys() <= set(known):
        raise UsageError(f"{call}: {call.name} takes {', '.join(known) or 'no parameters'}")
    return Call(call.name, (), tuple(given.items()))


def made(function: Callable[..., Any], call: Call, *, input_shape: tuple[int, int, int], classes: int) -> Net:
    """The net of a bound call. Raises `UsageError` where it fails, or does not map such inputs to such outputs."""
    offered = {"input_shape": input_shape, "classes": classes}
    wanted = inspect.signature(function).parameters
    settings = {key: float(value) if isinstance(value, Fraction) else value for key, value in call.kwargs}
    try:
        net = function(**{key: value for key, value in offered.items() if key in wanted} | settings)
        if not isinstance(net, nn.Module):
            raise UsageError(f"{call} gave a {type(net).__name__}; a torch.nn.Module is needed")
        net = net if isinstance(net, Net) else Own(net, input_shape, classes)
        refuse_incomplete(net)
        with torch.no_grad():
            shape = tuple(net.eval()(torch.zeros(2, *input_shape)).shape)
    except UsageError:
        raise
    except Exception as error:  # trusted code may fail in any way
        raise UsageError(
            f"{call} failed on inputs {list(input_shape)}: {type(error).__name__}: {one_line(error)}"
        ) from error
    if shape != (2, classes):
        raise UsageError(
            f"{call} gives outputs {list(shape)} for 2 inputs and {classes} classes; [2, {classes}] is needed"
        )
    return net


def draw(make: Callable[[], Net], generator: torch.Generator, name: str) -> Net:
    """A net whose weights its own code drew from the seed that the generator gives.

    Raises `UsageError` where every weight is the same for another seed: such models are copies and not independent.
    """
    nets: list[Net] = []
    for seed in torch.randint(2**31, (2,), generator=generator).tolist():
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            nets.append(make())
    one, other = (dict(net.named_parameters()) for net in nets)
    varied = [key for key, value in one.items() if value.requires_grad and value.unique().numel() > 1]
    if varied and all(torch.equal(one[key], other[key]) for key in varied):
        raise UsageError(
            f"{name} gives the same weights for every seed, so that all models of it would be copies of one. Make it "
            "draw them (no torch.manual_seed, no stored weights)"
        )
    return nets[0]


@contextmanager
def current_folder() -> Iterator[None]:
    """Modules are looked for in the current folder first."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
