"""What must be after a call as it was before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from whorl.testing.promises import promise

__all__ = ["chance_unchanged", "module_unchanged", "same_bytes"]


def same_bytes(first: Tensor, second: Tensor) -> bool:
    """Equal type, shape and bytes; NaN equals itself."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    raw = (value.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for value in (first, second))
    return torch.equal(*raw)


@contextmanager
def chance_unchanged(what: str) -> Iterator[None]:
    """Assert that the block leaves torch's global random state alone."""
    before = torch.get_rng_state()
    yield
    promise(
        torch.equal(before, torch.get_rng_state()),
        f"{what} draws from torch's global random state; draw from the generator that is passed in",
    )


@contextmanager
def module_unchanged(module: nn.Module, what: str) -> Iterator[None]:
    """Assert that the block leaves weights, buffers, gradients, requires_grad flags and modes of a module alone."""
    tensors = {name: value.detach().clone() for name, value in module.state_dict().items()}
    flags = {name: value.requires_grad for name, value in module.named_parameters()}
    modes = {name: child.training for name, child in module.named_modules()}
    yield
    now = module.state_dict()
    changed = [name for name, value in tensors.items() if name not in now or not same_bytes(value, now[name])]
    promise(
        not changed and len(now) == len(tensors), f"{what} writes to the victim: {', '.join(changed) or 'new names'}"
    )
    moved = [name for name, value in module.named_parameters() if value.requires_grad != flags[name]]
    promise(not moved, f"{what} leaves requires_grad of the victim changed: {', '.join(moved)}")
    left = [name for name, value in module.named_parameters() if value.grad is not None]
    promise(not left, f"{what} leaves gradients on the victim: {', '.join(left)}")
    switched = [name or "the whole" for name, child in module.named_modules() if child.training != modes[name]]
    promise(not switched, f"{what} leaves the victim's training mode changed: {', '.join(switched)}")
