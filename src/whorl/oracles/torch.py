"""PyTorch modules as oracles, and the frozen copy that gradient attacks run on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError

from whorl.oracles.base import Chunk, Oracle, require
from whorl.storage import digest_tensors
from whorl.types import Access, Task

__all__ = ["TorchOracle", "frozen"]


class TorchOracle(Oracle):
    """A module from pictures in [0, 1] to logits.

    The module is borrowed: its mode, device and gradients are as before after every call.

    Parameters:
        module: ``[n, c, h, w]`` in [0, 1] to logits ``[n, classes]``.
        batch: inputs per forward pass, a bound on memory.
        device: where to run; the module is expected to be there.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        input_shape: tuple[int, int, int],
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

    @property
    def device(self) -> torch.device:
        """Where the module lives."""
        return next((p.device for p in self._module.parameters()), torch.device("cpu"))

    @property
    def module(self) -> nn.Module:
        """The module itself; refused below `Access.WEIGHTS`."""
        require(self, Access.WEIGHTS, "reading weights")
        return self._module

    def differentiable(self) -> Callable[[Tensor], Tensor]:
        """Inputs to logits with input gradients only, on a frozen copy; refused below `Access.GRADIENTS`."""
        require(self, Access.GRADIENTS, "the gradient of the victim")
        return frozen(self._module)

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        training = self._module.training
        self._module.eval()
        try:
            for start in range(0, len(inputs), self._batch):
                chunk = inputs[start : start + self._batch]
                with torch.inference_mode():
                    logits = self._module(chunk.to(self.device, memory_format=torch.channels_last)).float().cpu()
                answers = logits.argmax(1) if self.access is Access.LABELS else logits
                if self.access is Access.PROBABILITIES:
                    answers = logits.softmax(1)
                yield torch.arange(start, start + len(chunk)), answers
        finally:
            self._module.train(training)


def frozen(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode, without parameter gradients, channels last, norms folded into convolutions.

    Folding needs a module that torch.fx can trace; others are copied as they are, which is slower and no less right.
    """
    duplicate = copy.deepcopy(module).eval().requires_grad_(False)
    try:
        duplicate = fuse(duplicate, inplace=True)
    except (TraceError, RuntimeError, TypeError, AttributeError, NotImplementedError):
        duplicate = copy.deepcopy(module).eval()
    duplicate.requires_grad_(False)
    return duplicate.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] missing in overloads
