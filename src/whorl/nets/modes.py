"""Evaluation mode for a while, of modules that belong to somebody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """All modules in evaluation mode inside the block; afterwards each sub-module in the mode it was in.

    ``train(mode)`` of the whole would not do: a norm that its owner keeps in evaluation mode inside a net that trains
    would come back training, and drift with the next batch.
    """
    modes = {child: child.training for module in modules for child in module.modules()}
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for child, mode in modes.items():
            child.training = mode
