"""Gradients whose memory does not grow with the number of inputs.

Whoever follows gradients of a hundred pictures at once keeps the activations of all of them: 43 MB a picture for a
ResNet-50 at 224 pixels. Here inputs go in parts of which the activations fit, and those of a part are forgotten and
computed again when its gradient is wanted (Chen et al., *Training Deep Nets with Sublinear Memory Cost*, arXiv
1604.06174). Rows must not depend on each other, as those of a net in evaluation mode do not. What fits as a whole
is asked as a whole, at no cost but two passes of one and two inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

__all__ = ["TARGET", "Bounded", "kept"]

TARGET: Final = 1 << 29
"""Bytes that activations of one part may take."""


class Bounded(nn.Module):
    """``function``, of rows ``[n, ...]`` to ``[n, ...]``, in parts of which the activations take ``target`` bytes.

    ``whole`` is the function itself. Where memory runs out all the same on the way forward, parts are halved until
    they are single rows.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], target: int = TARGET) -> None:
        super().__init__()
        self.whole = function
        self._target = target
        self._each: int | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """As the function, differentiable as it is."""
        while True:
            most = self.rows(inputs)
            try:
                return self._asked(inputs, most)
            except RuntimeError as error:
                if most == 1 or not _out_of_memory(error):
                    raise
            self._target = max(1, min(most, len(inputs)) * (self._each or 1) // 2)

    def rows(self, inputs: Tensor) -> int:
        """How many rows a part has, at least one."""
        if len(inputs) < 2:
            return 1
        if self._each is None:
            self._each = max(1, kept(self.whole, inputs[:2]) - kept(self.whole, inputs[:1]))
        return max(1, self._target // self._each)

    def _asked(self, inputs: Tensor, most: int) -> Tensor:
        if len(inputs) <= most:
            return self.whole(inputs)
        if not (torch.is_grad_enabled() and inputs.requires_grad):
            return torch.cat([self.whole(part) for part in inputs.split(most)])
        parts = [
            checkpoint(self.whole, part, use_reentrant=False, preserve_rng_state=False) for part in inputs.split(most)
        ]
        return torch.cat(parts)


def kept(function: Callable[[Tensor], Tensor], inputs: Tensor) -> int:
    """Bytes that the way back needs of a pass of these inputs, weights that are read on it among them."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # what a step made would hold that step itself, and so all before it, for ever

    with torch.enable_grad(), saved_tensors_hooks(note, lambda tensor: tensor):
        made = function(inputs.detach().requires_grad_())  # held until all is counted, so that no address comes twice
    del made
    return sum(sizes.values())


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
