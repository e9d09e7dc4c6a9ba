"""Which layers write and read the same channels, and what may be done to these without changing the function.

`torch.fx` writes a net down as a graph of its layers. Walking it, channels keep a positive factor through ReLU and
pooling, a sign through odd activations and means; sums join the channels of both sides; depthwise convolutions and
norms that are left carry channels on, one to one, with new factors. What is not known fixes the channels it touches.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from whorl.errors import UsageError

__all__ = [
    "Channels",
    "Layer",
    "Norm",
    "Units",
    "bias_of",
    "columns",
    "copied",
    "graph_of",
    "is_carrier",
    "read_units",
    "rows",
    "take_units",
]

Norm = nn.BatchNorm1d | nn.BatchNorm2d
Layer = nn.Linear | nn.Conv2d | nn.BatchNorm1d | nn.BatchNorm2d

Model = TypeVar("Model", bound=nn.Module)

POSITIVE = (functional.relu, torch.relu, "relu", nn.ReLU, functional.leaky_relu, nn.LeakyReLU)
ODD = (torch.tanh, "tanh", nn.Tanh, torch.sin, "sin", nn.Hardtanh, nn.Softsign)
MAXIMUM = (functional.max_pool2d, nn.MaxPool2d, nn.AdaptiveMaxPool2d)
MEAN = (functional.avg_pool2d, nn.AvgPool2d, functional.adaptive_avg_pool2d, nn.AdaptiveAvgPool2d)
SAME = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten)


@dataclass(eq=False)
class Channels:
    """What some layers write and others read, channel by channel.

    ``scale`` and ``sign`` say whether each channel may have a positive factor and be negated; ``fixed`` channels are
    inputs, outputs or unknown. ``maps`` are the activations on the way, in order, as functions.
    """

    writers: list[Layer] = field(default_factory=list)
    readers: list[Layer] = field(default_factory=list)
    maps: list[Callable[[Tensor], Tensor]] = field(default_factory=list)
    scale: bool = True
    sign: bool = True
    fixed: bool = False


@dataclass(frozen=True)
class Units:
    """Channels that are permuted and removed together: those between which layers carry one to one."""

    spaces: tuple[Channels, ...]

    @property
    def writers(self) -> list[Layer]:
        """Layers whose weights have the units on axis 0, carriers among them."""
        return [layer for space in self.spaces for layer in space.writers]

    @property
    def readers(self) -> list[Layer]:
        """Layers whose weights have the units on axis 1."""
        return [layer for space in self.spaces for layer in space.readers if not is_carrier(layer)]

    @property
    def count(self) -> int:
        """How many units there are."""
        return len(self.spaces[0].writers[0].weight)


def is_carrier(layer: nn.Module) -> bool:
    """Whether a layer acts on each channel by itself."""
    return isinstance(layer, Norm) or (isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels)


def copied(net: Model) -> Model:
    """A copy whose weights lie in memory as their axes go, so that they can be viewed by unit."""
    copy = deepcopy(net)
    for weight in copy.parameters():
        weight.data = weight.data.contiguous()
    return copy


def bias_of(layer: Layer) -> Tensor:
    """A layer's bias, which it must have."""
    assert layer.bias is not None
    return layer.bias


def rows(layer: Layer) -> Tensor:
    """What makes each unit: its weights and, last, its bias, ``[units, d + 1]``. The layer must have a bias."""
    return torch.cat([layer.weight.view(len(layer.weight), -1), bias_of(layer)[:, None]], 1)


def columns(layer: Layer, count: int) -> Tensor:
    """A reader's weights with the units on axis 1, ``[out, count, ...]``: a flattened map has several for each."""
    return layer.weight.view(len(layer.weight), count, -1)


@torch.no_grad()
def take_units(writers: Iterable[Layer], readers: Iterable[Layer], index: Tensor) -> None:
    """Keep the units that ``index`` ``[m]`` names, in that order, in all layers that write, carry or read them."""
    count = 0
    for layer in writers:
        count = len(layer.weight)
        layer.weight = nn.Parameter(layer.weight[index], layer.weight.requires_grad)
        if layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias[index], layer.bias.requires_grad)
        for name, buffer in layer.named_buffers():
            if buffer.ndim:
                setattr(layer, name, buffer[index])
        _count(layer, ("out_features", "out_channels", "num_features"), len(index))
        if is_carrier(layer):
            _count(layer, ("in_channels", "groups"), len(index))
    for layer in readers:
        taken = columns(layer, count)[:, index].reshape(len(layer.weight), -1, *layer.weight.shape[2:])
        layer.weight = nn.Parameter(taken, layer.weight.requires_grad)
        _count(layer, ("in_features", "in_channels"), taken.shape[1])


def _count(layer: Layer, names: Iterable[str], value: int) -> None:
    for name in names:
        if hasattr(layer, name):
            setattr(layer, name, value)


def graph_of(net: nn.Module) -> fx.Graph:
    """The graph of layers and functions. Raises `UsageError` where what is done depends on the inputs."""
    try:
        return fx.symbolic_trace(net).graph
    except Exception as error:  # whatever the net's own code does with a stand-in for a tensor
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{type(net).__name__} can't be brought into canonical form: {reason[:200]}") from None


def read_units(net: nn.Module) -> list[Units]:
    """All units that are free to be permuted, from input to output.

    Every linear layer and convolution must have a bias. Raises `UsageError` for a net that can't be traced.
    """
    walk = _Walk(dict(net.named_modules()))
    graph = graph_of(net)
    for node in graph.nodes:
        walk.read(node)
    walk.fix_shared()
    return list(_tied(walk.spaces))


class _Walk:
    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.modules = modules
        self.at: dict[fx.Node, Channels] = {}
        self.calls: list[nn.Module] = []

    @property
    def spaces(self) -> list[Channels]:
        """All there are, in the order in which they are first written."""
        return list(dict.fromkeys(self.at.values()))

    def read(self, node: fx.Node) -> None:
        layer = self.modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, Layer):
            self.at[node] = self._through(layer, node)
        elif node.op in ("call_function", "call_method", "call_module"):
            self.at[node] = self._kept(node, type(layer) if layer else node.target, layer)
        else:
            for each in node.all_input_nodes:
                self.at[each].fixed = True
            self.at[node] = Channels(fixed=True)

    def fix_shared(self) -> None:
        """Layers that are used twice tie channels in ways that are not followed."""
        shared = {layer for layer in self.calls if self.calls.count(layer) > 1}
        for space in self.spaces:
            space.fixed |= not shared.isdisjoint([*space.writers, *space.readers])

    def _through(self, layer: Layer, node: fx.Node) -> Channels:
        self.calls.append(layer)
        source = self.at[node.all_input_nodes[0]]
        source.readers.append(layer)
        grouped = isinstance(layer, nn.Conv2d) and layer.groups > 1 and not is_carrier(layer)
        widened = is_carrier(layer) and isinstance(layer, nn.Conv2d) and layer.out_channels != layer.in_channels
        source.fixed |= grouped or widened
        return Channels(writers=[layer], fixed=grouped or widened)

    def _kept(self, node: fx.Node, target: Any, module: nn.Module | None) -> Channels:
        """The channels after an operation that has no weights."""
        sources = [self.at[each] for each in node.all_input_nodes]
        if target in (operator.add, torch.add, operator.iadd, "add") and len(sources) == 2:
            return self._joined(*sources)
        if len(sources) == 1 and (source := sources[0]) and not source.fixed and _known(target, node):
            source.sign &= target not in (*POSITIVE, *MAXIMUM)
            source.scale &= target not in ODD
            if target in (*POSITIVE, *ODD):
                source.maps.append(module or _function(node))
            return source
        for source in sources:
            source.fixed = True
        return Channels(fixed=True)

    def _joined(self, one: Channels, other: Channels) -> Channels:
        if one is other:
            return one
        first = one if self.spaces.index(one) < self.spaces.index(other) else other
        last = other if first is one else one
        first.writers += last.writers
        first.readers += last.readers
        first.maps += last.maps
        first.scale &= last.scale
        first.sign &= last.sign
        first.fixed |= last.fixed
        self.at = {node: first if space is last else space for node, space in self.at.items()}
        return first


def _known(target: Any, node: fx.Node) -> bool:
    """Whether an operation keeps channels apart, each up to a factor."""
    if target in (torch.flatten, "flatten"):
        return tuple(node.args[1:]) == (1,) and not node.kwargs
    if target in (torch.mean, "mean"):
        axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        return isinstance(axes, Iterable) and set(axes) <= {2, 3, -1, -2}
    return target in (*POSITIVE, *ODD, *MAXIMUM, *MEAN, *SAME)


def _function(node: fx.Node) -> Callable[[Tensor], Tensor]:
    target = getattr(torch, node.target) if isinstance(node.target, str) else node.target
    options = {key: option for key, option in node.kwargs.items() if key != "inplace"}
    return lambda value: target(value, *node.args[1:], **options)


def _tied(spaces: list[Channels]) -> Iterator[Units]:
    """Groups of channels with carriers between them; those that are free throughout."""
    left = [space for space in spaces if space.writers]
    while left:
        group = [left.pop(0)]
        for space in group:  # grows while it is read
            near = [each for each in left if _carried(space, each) or _carried(each, space)]
            group += near
            left = [each for each in left if each not in near]
        if all(space.readers and not space.fixed for space in group):
            yield Units(tuple(space for space in spaces if space in group))


def _carried(one: Channels, other: Channels) -> bool:
    return any(is_carrier(layer) and layer in other.writers for layer in one.readers)
