"""What must be after a call as it was before, and a module whose owner left it as few are left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from whorl.testing.promises import promise

__all__ = ["chance_unchanged", "lent", "module_unchanged", "same_bytes"]


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


def lent(module: nn.Module) -> None:
    """As an owner may leave it: training, but for the last norm (the last part, where there is none), and half frozen.

    Who restores one mode for all parts, or thaws all parameters, is found out by this and by nothing simpler.
    """
    module.train()
    parts = list(module.modules())
    norms = [part for part in parts if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    (norms or parts)[-1].training = False
    for parameter in list(module.parameters())[::2]:
        parameter.requires_grad_(False)


HOOKS: Final = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


@contextmanager
def module_unchanged(module: nn.Module, what: str) -> Iterator[None]:
    """Assert that the block leaves weights, buffers, gradients, devices, requires_grad, modes and hooks alone."""
    tensors = {name: value.detach().clone() for name, value in module.state_dict().items()}
    flags = {name: value.requires_grad for name, value in module.named_parameters()}
    devices = {name: value.device for name, value in module.state_dict().items()}
    modes = {name: child.training for name, child in module.named_modules()}
    hooks = {name: _hooks(child) for name, child in module.named_modules()}
    yield
    now = module.state_dict()
    changed = [name for name, value in tensors.items() if name not in now or not same_bytes(value, now[name])]
    promise(
        not changed and len(now) == len(tensors), f"{what} writes to the victim: {', '.join(changed) or 'new names'}"
    )
    moved = [name for name, value in now.items() if value.device != devices[name]]
    promise(not moved, f"{what} moves the victim to another device: {', '.join(moved)}")
    thawed = [name for name, value in module.named_parameters() if value.requires_grad != flags[name]]
    promise(not thawed, f"{what} leaves requires_grad of the victim changed: {', '.join(thawed)}")
    left = [name for name, value in module.named_parameters() if value.grad is not None]
    promise(not left, f"{what} leaves gradients on the victim: {', '.join(left)}")
    switched = [name or "the whole" for name, child in module.named_modules() if child.training != modes[name]]
    promise(not switched, f"{what} leaves the victim's training mode changed: {', '.join(switched)}")
    watched = [name or "the whole" for name, child in module.named_modules() if _hooks(child) != hooks[name]]
    promise(not watched, f"{what} leaves hooks on the victim: {', '.join(watched)}")


def _hooks(module: nn.Module) -> list[int]:
    return [identifier for field in HOOKS for identifier in getattr(module, field)]
