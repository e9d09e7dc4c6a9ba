"""The owner's net: four convolutions with norms, as a plain PyTorch module."""

from torch import nn


def make(width: int = 16) -> nn.Module:
    """A net for pictures ``[n, 3, 32, 32]`` of ten classes."""
    layers: list[nn.Module] = []
    for channels, wide, stride in (
        (3, width, 1),
        (width, 2 * width, 2),
        (2 * width, 4 * width, 2),
        (4 * width, 4 * width, 1),
    ):
        layers += [nn.Conv2d(channels, wide, 3, stride, 1, bias=False), nn.BatchNorm2d(wide), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))


def wide() -> nn.Module:
    """The same, twice as wide."""
    return make(32)
