"""Nets without shortcuts: LeNet-5, a small VGG and VGG-16, a small MobileNet, a multi-layer perceptron."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from whorl.nets.base import Classifier, HiddenUnits, chain, convolution
from whorl.settings import Count

__all__ = ["MLP", "VGG", "VGG16", "LeNet5", "MobileNet"]

MAX_DEPTH = 1000  # a model file names its depth, and a lying one must not build for ever
Depth = Annotated[int, Ge(1), Le(MAX_DEPTH)]


class LeNet5(Classifier):
    """LeNet-5 with ReLU and max pooling (after LeCun et al., Proc. IEEE 1998), padded to take any size from 8 px."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__(input_shape, classes)
        channels, height, width = input_shape
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=2)
        self.hidden1 = nn.Linear(16 * (height // 4) * (width // 4), 120)
        self.hidden2 = nn.Linear(120, 84)
        self.head = nn.Linear(84, classes)

    def embed(self, normalised: Tensor) -> Tensor:
        """Output of the second hidden layer, 84 wide."""
        x = max_pool2d(relu(self.conv1(normalised)), 2)
        x = max_pool2d(relu(self.conv2(x)), 2).flatten(1)
        return relu(self.hidden2(relu(self.hidden1(x))))

    def hidden_units(self) -> list[HiddenUnits]:
        """Filters and neurons of every layer but the head."""
        return chain([self.conv1, self.conv2, self.hidden1, self.hidden2, self.head])


class VGG(Classifier):
    """Six 3x3 convolutions with norms in three pooled stages (after Simonyan & Zisserman, ICLR 2015)."""

    stages: ClassVar[tuple[tuple[int, ...], ...]] = ((1, 1), (2, 2), (4, 4))
    """Filters of each convolution, in multiples of the width; sides are halved between stages while they last."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, width: Count = 16) -> None:
        super().__init__(input_shape, classes)
        filters = [width * share for stage in self.stages for share in stage]
        self.convs = nn.ModuleList(convolution(a, b) for a, b in pairwise([input_shape[0], *filters]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in filters)
        self.head = nn.Linear(filters[-1], classes)
        ends = list(accumulate(map(len, self.stages[:-1])))
        self.halved = ends[: min(input_shape[1:]).bit_length() - 1]

    def embed(self, normalised: Tensor) -> Tensor:
        """Mean over positions of the last stage."""
        x = normalised
        for depth, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = relu(norm(conv(max_pool2d(x, 2) if depth in self.halved else x)))
        return x.mean((2, 3))

    def hidden_units(self) -> list[HiddenUnits]:
        """Filters of every convolution."""
        layers = [*self.convs, self.head]
        return [
            HiddenUnits(producer, (norm,), consumer)  # pyright: ignore[reportArgumentType] ModuleList forgets types
            for producer, norm, consumer in zip(layers, self.norms, layers[1:], strict=False)
        ]


class VGG16(VGG):
    """VGG-16 for small pictures: the thirteen 3x3 convolutions of configuration D with norms, and one linear layer.

    Source: Simonyan & Zisserman, ICLR 2015, table 1. Their two hidden linear layers of 4,096 are left out, as is usual
    for pictures of 32 x 32, whose last maximum of 2 x 2 is the mean here.
    """

    stages: ClassVar[tuple[tuple[int, ...], ...]] = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, width: Count = 64) -> None:
        super().__init__(input_shape, classes, width=width)


class _Separable(nn.Module):
    """Depthwise then pointwise convolution, each with norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = convolution(inputs, inputs, stride=stride, groups=inputs)
        self.norm1 = nn.BatchNorm2d(inputs)
        self.pointwise = convolution(inputs, outputs, 1)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.norm2(self.pointwise(relu(self.norm1(self.depthwise(x))))))


class MobileNet(Classifier):
    """Five depthwise-separable blocks (after Howard et al., arXiv 1704.04861)."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, width: Count = 16) -> None:
        super().__init__(input_shape, classes)
        self.stem = convolution(input_shape[0], width)
        self.norm = nn.BatchNorm2d(width)
        plan = [(width, 2 * width, 1), (2 * width, 4 * width, 2), (4 * width, 4 * width, 1)]
        plan += [(4 * width, 8 * width, 2), (8 * width, 8 * width, 1)]
        self.blocks = nn.Sequential(*(_Separable(*step) for step in plan))
        self.head = nn.Linear(8 * width, classes)

    def embed(self, normalised: Tensor) -> Tensor:
        """Mean over positions of the last block."""
        return self.blocks(relu(self.norm(self.stem(normalised)))).mean((2, 3))

    def hidden_units(self) -> list[HiddenUnits]:
        """Channels between pointwise convolutions; the depthwise ones in between carry them."""
        blocks = [block for block in self.blocks if isinstance(block, _Separable)]
        producers = [self.stem, *(block.pointwise for block in blocks)]
        norms = [self.norm, *(block.norm2 for block in blocks)]
        inner = [
            HiddenUnits(producer, (norm, block.depthwise, block.norm1), block.pointwise)
            for producer, norm, block in zip(producers, norms, blocks, strict=False)
        ]
        return [*inner, HiddenUnits(producers[-1], (norms[-1],), self.head)]


class MLP(Classifier):
    """Fully connected ReLU layers of the given widths, as many as ``depth``."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, width: Count = 64, depth: Depth = 1) -> None:
        super().__init__(input_shape, classes)
        widths = [torch.Size(input_shape).numel(), *[width] * depth]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.head = nn.Linear(width, classes)

    def embed(self, normalised: Tensor) -> Tensor:
        """Output of the last hidden layer."""
        x = normalised.flatten(1)
        for layer in self.layers:
            x = relu(layer(x))
        return x

    def hidden_units(self) -> list[HiddenUnits]:
        """Neurons of every hidden layer."""
        return chain([*self.layers, self.head])
