"""In which order a net's numbers lie in memory: the fastest that is safe."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from whorl.nets.base import Net
from whorl.nets.modes import evaluating

__all__ = ["borne_layout", "fastest_layout", "laid_out", "refuses_layout"]

NARROW = 8  # channels, below which a block of eight is not filled


def fastest_layout(net: nn.Module) -> torch.memory_format:
    """Channels last, unless a strided convolution of one pixel reads fewer than eight channels.

    The weight gradient of such a convolution, channels last, is written past the end of its buffer on processors with
    AVX2 and no more: training crashes, hangs, or gives other gradients. Source: oneDNN issue 6035; seen with torch
    2.13.0 and oneDNN 3.12.
    """
    narrow = any(
        isinstance(each, nn.Conv2d)
        and each.in_channels // each.groups < NARROW
        and set(each.kernel_size) == {1}
        and max(each.stride) > 1
        for each in net.modules()
    )
    return torch.contiguous_format if narrow else torch.channels_last


def laid_out(net: nn.Module) -> nn.Module:
    """The net itself, its weights in the fastest layout."""
    return net.to(memory_format=fastest_layout(net))  # pyright: ignore[reportCallIssue] missing in torch's overloads


def borne_layout(net: nn.Module, inputs: Tensor, layout: torch.memory_format) -> torch.memory_format:
    """``layout``, where the net bears it: contiguous for an owner's module that flattens by ``view``.

    Shape:
        inputs: ``[n, ...]``, of which the first is tried.
    """
    if isinstance(net, Net) or layout is torch.contiguous_format:
        return layout
    device = next(net.parameters()).device
    with evaluating(net), torch.no_grad():
        refused = refuses_layout(lambda: net(inputs[:1].to(device, memory_format=layout)))
    return torch.contiguous_format if refused else layout


def refuses_layout(ask: Callable[[], object]) -> bool:
    """Whether a module flattens by ``view`` what channels last has laid out in another order."""
    try:
        ask()
    except RuntimeError as error:
        if "view size is not compatible" not in str(error):
            raise
        return True
    return False
