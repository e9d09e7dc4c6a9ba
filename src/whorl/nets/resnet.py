"""Residual nets for small pictures: ResNet-8/14/20 with width (He et al., CVPR 2016, section 4.2) and WRN-22-4."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le, Predicate, doc
from torch import Tensor, nn
from torch.nn.functional import relu

from whorl.nets.base import Classifier, HiddenUnits, convolution
from whorl.settings import Count

__all__ = ["ResNet", "WideResNet"]

MAX_DEPTH = 1202  # the deepest net of He et al.; a model file names its depth, and a lying one must not build for ever
ResNetDepth = Annotated[
    int,
    Ge(8),
    Le(MAX_DEPTH),
    Predicate(lambda depth: depth % 6 == 2),
    doc(f"6n + 2 layers (8, 14, 20, ... {MAX_DEPTH})"),
]
WideDepth = Annotated[
    int,
    Ge(10),
    Le(MAX_DEPTH),
    Predicate(lambda depth: depth % 6 == 4),
    doc(f"6n + 4 layers (10, 16, 22, ... {MAX_DEPTH - 4})"),
]


class _Block(nn.Module):
    """conv-norm-ReLU-conv-norm plus shortcut, then ReLU; a projection where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, stride=stride)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = (
            nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
            if stride != 1 or inputs != outputs
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = relu(self.norm1(self.conv1(x)))
        return relu(self.norm2(self.conv2(inner)) + self.shortcut(x))

    def units(self) -> HiddenUnits:
        return HiddenUnits(self.conv1, (self.norm1,), self.conv2)


class _PreActivationBlock(nn.Module):
    """norm-ReLU-conv-norm-ReLU-conv plus shortcut (Zagoruyko & Komodakis, BMVC 2016, figure 1c)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = convolution(inputs, outputs, stride=stride)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs)
        self.project = convolution(inputs, outputs, 1, stride) if stride != 1 or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        active = relu(self.norm1(x))
        shortcut = x if self.project is None else self.project(active)
        return self.conv2(relu(self.norm2(self.conv1(active)))) + shortcut

    def units(self) -> HiddenUnits:
        return HiddenUnits(self.conv1, (self.norm2,), self.conv2)


class ResNet(Classifier):
    """CIFAR ResNet of depth 6n + 2 with three stages of n blocks, ``width`` filters in the first."""

    def __init__(
        self, input_shape: tuple[int, int, int], classes: int, *, depth: ResNetDepth = 20, width: Count = 16
    ) -> None:
        super().__init__(input_shape, classes)
        self.stem = nn.Sequential(convolution(input_shape[0], width), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = _stages(_Block, width, width, (depth - 2) // 6)
        self.head = nn.Linear(4 * width, classes)

    def embed(self, normalised: Tensor) -> Tensor:
        """Mean over positions of the last stage."""
        return self.blocks(self.stem(normalised)).mean((2, 3))

    def hidden_units(self) -> list[HiddenUnits]:
        """The inner filters of each block."""
        return [block.units() for block in self.blocks if isinstance(block, _Block)]


class WideResNet(Classifier):
    """Wide residual net of depth 6n + 4 with ``widen`` times 16 filters in the first stage."""

    def __init__(
        self, input_shape: tuple[int, int, int], classes: int, *, depth: WideDepth = 22, widen: Count = 4
    ) -> None:
        super().__init__(input_shape, classes)
        width = 16 * widen
        self.stem = convolution(input_shape[0], 16)
        self.blocks = _stages(_PreActivationBlock, 16, width, (depth - 4) // 6)
        self.norm = nn.BatchNorm2d(4 * width)
        self.head = nn.Linear(4 * width, classes)

    def embed(self, normalised: Tensor) -> Tensor:
        """Mean over positions after the last norm."""
        return relu(self.norm(self.blocks(self.stem(normalised)))).mean((2, 3))

    def hidden_units(self) -> list[HiddenUnits]:
        """The inner filters of each block."""
        return [block.units() for block in self.blocks if isinstance(block, _PreActivationBlock)]


def _stages(block: type[_Block | _PreActivationBlock], inputs: int, width: int, count: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for stage in range(3):
        for position in range(count):
            outputs = width * 2**stage
            layers.append(block(inputs, outputs, 2 if stage and not position else 1))
            inputs = outputs
    return nn.Sequential(*layers)
