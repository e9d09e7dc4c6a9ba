"""Nets by the names that papers use."""

from __future__ import annotations

from whorl.nets.resnet import ResNet, WideResNet
from whorl.settings import Count

__all__ = ["resnet8", "resnet14", "resnet20", "wrn22_4"]

Shape = tuple[int, int, int]


def resnet8(input_shape: Shape, classes: int, *, width: Count = 16) -> ResNet:
    """CIFAR ResNet-8."""
    return ResNet(input_shape, classes, depth=8, width=width)


def resnet14(input_shape: Shape, classes: int, *, width: Count = 16) -> ResNet:
    """CIFAR ResNet-14."""
    return ResNet(input_shape, classes, depth=14, width=width)


def resnet20(input_shape: Shape, classes: int, *, width: Count = 16) -> ResNet:
    """CIFAR ResNet-20, the victim of the IPGuard paper's CIFAR-10 table."""
    return ResNet(input_shape, classes, depth=20, width=width)


def wrn22_4(input_shape: Shape, classes: int) -> WideResNet:
    """WRN-22-4, the victim of the IPGuard paper's CIFAR-100 table."""
    return WideResNet(input_shape, classes, depth=22, widen=4)
