"""The layers of a net that a mark may lie in."""

from __future__ import annotations

from torch import nn

from whorl.errors import UsageError

__all__ = ["linear_layers", "widest"]


def linear_layers(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules of all convolutions and linear layers, in the order of the net."""
    return [(name, each) for name, each in net.named_modules() if isinstance(each, nn.Linear | nn.Conv1d | nn.Conv2d)]


def widest(net: nn.Module) -> str:
    """Name of the layer with the most inputs to a unit that is not the last, or is the only one.

    Raises:
        UsageError: there is no such layer.
    """
    layers = linear_layers(net)[:-1] or linear_layers(net)
    if not layers:
        raise UsageError(f"{type(net).__name__} has no linear layer or convolution to mark")
    return max(layers, key=lambda each: each[1].get_parameter("weight")[0].numel())[0]
