"""PyTorch modules as oracles, and the frozen copy that gradient attacks run on."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Final

import torch
from torch import Tensor, nn
from torch.fx.proxy import TraceError

from whorl.errors import UsageError
from whorl.nets.layout import fastest_layout, laid_out, refuses_layout
from whorl.nets.modes import evaluating
from whorl.oracles.base import Chunk, Oracle, require
from whorl.oracles.bounded import TARGET, Bounded
from whorl.spaces import InputSpace
from whorl.storage import digest_tensors
from whorl.types import Access, Task

__all__ = ["TorchOracle", "frozen", "hidden"]

LARGE: Final = 1 << 24
"""Bytes of a batch of inputs from which on it is looked how many fit."""


class TorchOracle(Oracle):
    """A module from pictures in [0, 1] to logits.

    The module is borrowed: the mode of each of its parts, its device and its gradients are as
    before after every call.

    Parameters:
        module: ``[n, c, h, w]`` in [0, 1] to logits ``[n, classes]``.
        batch: inputs per forward pass, a bound on memory.
        device: where to run; the module is expected to be there.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        input_shape: tuple[int, ...] | InputSpace,
        classes: int,
        access: Access = Access.WEIGHTS,
        name: str = "the PyTorch model",
        digest: str = "",
        batch: int = 256,
        task: Task = "classification",
    ) -> None:
        digest = digest or digest_tensors(module.state_dict())
        super().__init__(access=access, input_shape=input_shape, classes=classes, name=name, digest=digest, task=task)
        self._module = module
        self._batch = batch
        self._layout = fastest_layout(module)  # until the module turns out not to take it

    @property
    def device(self) -> torch.device:
        """Where the module lives."""
        return next((p.device for p in self._module.parameters()), torch.device("cpu"))

    @property
    def module(self) -> nn.Module:
        """The module itself; refused below `Access.WEIGHTS`."""
        require(self, Access.WEIGHTS, "reading weights")
        return self._module

    @property
    def net(self) -> nn.Module:
        """The net as its file has it, without what a description put around it; refused below `Access.WEIGHTS`."""
        whole = self.module
        parts = list(whole) if isinstance(whole, nn.Sequential) else []
        return next((each for each in parts if digest_tensors(each.state_dict()) == self.digest), whole)

    def differentiable(self) -> Callable[[Tensor], Tensor]:
        """Inputs to logits with input gradients only, on a frozen copy; refused below `Access.GRADIENTS`.

        Memory for the way back is `Bounded`, whatever the number of inputs.
        """
        require(self, Access.GRADIENTS, "the gradient of the victim")
        copied = frozen(self._module)
        with torch.no_grad():
            if refuses_layout(lambda: copied(torch.zeros(1, *self.input_shape, device=self.device))):
                copied.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue] as below
                copied.register_forward_pre_hook(_contiguous)
        return Bounded(copied)

    @property
    def layers(self) -> dict[str, int]:
        """Filters or neurons of every convolution and linear layer by name; refused below `Access.FEATURES`."""
        require(self, Access.FEATURES, "naming the layers")
        named = self._module.named_modules()
        return {name: len(module.weight) for name, module in named if isinstance(module, nn.Conv2d | nn.Linear)}

    def activations(self, inputs: Tensor, layer: str) -> Tensor:
        """Outputs ``[n, units]`` of one of the `layers`, averaged over positions, before any norm or ReLU.

        Each input counts as a query. Refused below `Access.FEATURES`.
        """
        require(self, Access.FEATURES, "hidden activations")
        reach = hidden(self._module, layer)
        found: list[Tensor] = []
        with evaluating(self._module), torch.inference_mode():
            for chunk in inputs.split(self._batch):
                found.append(self._answer(reach, chunk).float().cpu())
                self.queries_spent += len(chunk)
        return torch.cat(found)

    def differentiable_activations(self, layer: str) -> Callable[[Tensor], Tensor]:
        """Inputs to `activations` with input gradients only, on a frozen copy; refused below `Access.GRADIENTS`.

        Memory for the way back is `Bounded`, whatever the number of inputs.
        """
        require(self, Access.GRADIENTS, "the gradient of a hidden unit")
        # Not `frozen`: folding a norm into a convolution would move it into the activation.
        return Bounded(hidden(copy.deepcopy(self._module).eval().requires_grad_(False), layer))

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        batch = self._fitting(inputs)
        for start in range(0, len(inputs), batch):
            chunk = inputs[start : start + batch]
            with evaluating(self._module), torch.inference_mode():
                logits = self._answer(self._module, chunk).float().cpu()
            answers = logits.argmax(1) if self.access is Access.LABELS else logits
            if self.access is Access.PROBABILITIES:
                answers = logits.softmax(1)
            yield torch.arange(start, start + len(chunk)), answers

    def _fitting(self, inputs: Tensor) -> int:
        """The batch, or less of inputs so large that a pass of as many might not fit into memory."""
        if inputs[: self._batch].nbytes < LARGE:
            return self._batch
        with evaluating(self._module):
            fitting = Bounded(lambda chunk: self._answer(self._module, chunk), TARGET).rows(inputs[:2])
        return min(self._batch, fitting)

    def _answer(self, function: Callable[[Tensor], Tensor], chunk: Tensor) -> Tensor:
        """What a function of the module gives for a chunk."""
        found: list[Tensor] = []
        if refuses_layout(lambda: found.append(function(chunk.to(self.device, memory_format=self._layout)))):
            self._layout = torch.contiguous_format
            return function(chunk.to(self.device, memory_format=self._layout))
        return found[0]


def _contiguous(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Cloned, as contiguous() leaves the strides of a single channel."""
    return tuple(each.clone(memory_format=torch.contiguous_format) for each in arguments)


def frozen(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode, without parameter gradients, in the fastest layout, norms folded into convolutions.

    Folding needs a module that torch.fx can trace; others are copied as they are, which is slower and no less right.
    """
    duplicate = copy.deepcopy(module).eval().requires_grad_(False)
    try:
        duplicate = _folding()(duplicate, inplace=True)
    except (TraceError, RuntimeError, TypeError, AttributeError, NotImplementedError):
        duplicate = copy.deepcopy(module).eval()
    duplicate.requires_grad_(False)
    return laid_out(duplicate)


@functools.cache
def _folding() -> Callable[..., nn.Module]:
    """torch.fx's folding of norms into what is before them.

    Imported late and without its warnings: it decorates a class by what PyTorch itself calls deprecated, which no user
    of whorl can help and which ends a process that takes warnings for errors.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch.fx.experimental.optimization import fuse
    return fuse


class _Reached(Exception):
    """Ends a forward pass at the layer that was wanted."""

    def __init__(self, output: Tensor) -> None:
        self.output = output


def hidden(module: nn.Module, layer: str) -> Callable[[Tensor], Tensor]:
    """Inputs to the outputs ``[n, units]`` of a convolution or linear layer, averaged over positions.

    The pass ends at that layer, and the module is left without a trace of it.

    Raises:
        UsageError: the module has no layer of that name, or never asks it.
    """
    target = dict(module.named_modules()).get(layer)
    if not isinstance(target, nn.Conv2d | nn.Linear):
        raise UsageError(f"no convolution or linear layer is called {layer!r} in this {type(module).__name__}")

    def stop(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        raise _Reached(output)

    def reach(inputs: Tensor) -> Tensor:
        handle = target.register_forward_hook(stop)
        try:
            module(inputs)
        except _Reached as reached:
            output = reached.output.movedim(-1, 1) if isinstance(target, nn.Linear) else reached.output
            return output.flatten(2).mean(2) if output.ndim > 2 else output
        finally:
            handle.remove()
        raise UsageError(f"this {type(module).__name__} never asks its layer {layer!r}")

    return reach
