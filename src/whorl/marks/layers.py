"""The layers of a net that a mark may lie in."""

from __future__ import annotations

from torch import nn

from whorl.errors import AccessRefused, UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.torch import TorchOracle

__all__ = ["asked_for_weights", "inner_layers", "linear_layers", "placed", "widest"]


def asked_for_weights(oracle: Oracle) -> TorchOracle:
    """The oracle, if it is a PyTorch net; `AccessRefused` otherwise."""
    if not isinstance(oracle, TorchOracle):
        raise AccessRefused(
            f"bits stand in a PyTorch net's weights, and {oracle.name} shows none: give the file that holds them, with "
            "--architecture where it names none"
        )
    return oracle


def linear_layers(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules of all convolutions and linear layers, in the order of the net."""
    return [(name, each) for name, each in net.named_modules() if isinstance(each, nn.Linear | nn.Conv1d | nn.Conv2d)]


def inner_layers(net: nn.Module) -> tuple[str, ...]:
    """Linear layers and convolutions by name, in order, without the last. Raises `UsageError` where there is none."""
    names = tuple(name for name, _ in linear_layers(net))
    if not names:
        raise UsageError(f"{type(net).__name__} has no linear layer or convolution to mark")
    return names[:-1] or names


def widest(net: nn.Module) -> str:
    """Name of the inner layer with the most inputs to a unit. Raises `UsageError` where there is none."""
    known = dict(linear_layers(net))
    return max(inner_layers(net), key=lambda name: known[name].get_parameter("weight")[0].numel())


def placed(net: nn.Module, layer: str) -> str:
    """How a layer is called in ``net``, where a description may have put the net beside a conversion of its inputs.

    Where there is no such layer at all, the name as it is.
    """
    known = dict(net.named_modules())
    beside = (f"{child}.{layer}" for child, _ in net.named_children())
    return next((name for name in (layer, *beside) if name in known), layer)
