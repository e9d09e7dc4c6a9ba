"""Procedural colour pictures of ten pattern families: any number of fresh pictures, without a download.

A class is a shape or texture; place, size, turn, colours, light, clutter and noise say nothing about it. The noise is
such that a small network errs on about one picture in eleven, and that networks from other seeds err elsewhere:
without that, every independent model would agree with the victim and no scheme could be told from another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor

from whorl.data.base import PARTS, Dataset, Source
from whorl.data.pictures import Side
from whorl.expressions import Call
from whorl.settings import Probability

__all__ = ["Textures"]

QUERIES: Final = 1000
TEST: Final = 2000
MAX_IMAGES: Final = 1_000_000
CONTRAST: Final = 0.35  # least distance between foreground and background in some colour channel


@dataclass(frozen=True)
class _Pose:
    """Where each of m patterns lies. Coordinates span [-1, 1] over the picture before the pattern is moved.

    Shape: x, y ``[m, size, size]`` in the pattern's own frame; radius, frequency, phase ``[m, 1, 1]``.
    """

    x: Tensor
    y: Tensor
    radius: Tensor
    frequency: Tensor
    phase: Tensor


def _disc(at: _Pose) -> Tensor:
    return at.radius - torch.hypot(at.x, at.y)


def _square(at: _Pose) -> Tensor:
    return 0.85 * at.radius - torch.maximum(at.x.abs(), at.y.abs())


def _triangle(at: _Pose) -> Tensor:
    slope = at.x.abs() * math.cos(math.pi / 6) - at.y * 0.5
    return 0.6 * at.radius - torch.maximum(slope, at.y)


def _ring(at: _Pose) -> Tensor:
    return 0.25 * at.radius - (torch.hypot(at.x, at.y) - 0.75 * at.radius).abs()


def _cross(at: _Pose) -> Tensor:
    x, y = at.x.abs(), at.y.abs()
    bar = torch.minimum(0.3 * at.radius - x, at.radius - y)
    return torch.maximum(bar, torch.minimum(0.3 * at.radius - y, at.radius - x))


def _wave(along: Tensor, at: _Pose) -> Tensor:
    return torch.sin(at.frequency * along + at.phase) / at.frequency


def _vertical(at: _Pose) -> Tensor:
    return _wave(at.x, at)


def _horizontal(at: _Pose) -> Tensor:
    return _wave(at.y, at)


def _diagonal(at: _Pose) -> Tensor:
    return _wave((at.x + at.y) * math.sqrt(0.5), at)


def _checkerboard(at: _Pose) -> Tensor:
    return _wave(at.x, at) * torch.sin(at.frequency * at.y + at.phase)


def _blobs(at: _Pose) -> Tensor:
    return 0.5 * at.radius - torch.hypot(at.x.abs() - 0.6 * at.radius, at.y)


# Each gives the distance to the pattern's edge, positive inside, in the units of the coordinates.
_FAMILIES: Final[Mapping[str, Callable[[_Pose], Tensor]]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "ring": _ring,
    "cross": _cross,
    "vertical": _vertical,
    "horizontal": _horizontal,
    "diagonal": _diagonal,
    "checkerboard": _checkerboard,
    "blobs": _blobs,
}


@dataclass(frozen=True)
class Textures(Source):
    """Pictures ``[n, 3, size, size]`` of the first ``classes`` families, as many of each class as divides evenly.

    Every part is drawn from its own random stream, so parts share no picture: ``images`` each for ``victim``,
    ``attacker`` and ``calibration``, 1,000 for ``queries`` and 2,000 for ``test``. ``noise`` is the standard
    deviation of the pixel noise. Raises `UsageError` unless ``classes`` is in 2..10, ``size`` in 4..512, ``images``
    in 1..1,000,000, ``noise`` in 0..1 and ``seed`` in 0..2**29.
    """

    size: Side = 16
    classes: Annotated[int, Ge(2), Le(len(_FAMILIES))] = 10
    images: Annotated[int, Ge(1), Le(MAX_IMAGES)] = 4000
    noise: Probability = 0.14
    seed: Annotated[int, Ge(0), Le(2**29)] = 0

    def _load(self, part: str) -> Dataset:
        count = {"queries": QUERIES, "test": TEST}.get(part, self.images)
        # The stream of a CPU generator depends on 32 bits of its seed; within them this is one-to-one.
        generator = torch.Generator().manual_seed(self.seed * len(PARTS) + list(PARTS).index(part))
        labels = torch.arange(count)[torch.randperm(count, generator=generator)] % self.classes
        names = tuple(_FAMILIES)[: self.classes]
        images = torch.empty(count, 3, self.size, self.size)
        for label, name in enumerate(names):
            members = (labels == label).nonzero().flatten()
            images[members] = _draw(name, len(members), self.size, self.noise, generator)
        expression = str(Call("textures", kwargs=tuple(vars(self).items())))
        return Dataset(images, labels, names, expression)


def _uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def _draw(family: str, count: int, size: int, noise: float, generator: Generator) -> Tensor:
    """``count`` pictures of one family, ``[count, 3, size, size]`` in [0, 1]."""
    line = (torch.arange(size) * 2 + 1) / size - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    coverage = _coverage(_FAMILIES[family](_pose(x, y, count, generator)), size)
    background, foreground = _colours(count, generator)
    pictures = background + coverage * (foreground - background)

    middle = _uniform(-1, 1, (2, count, 1, 1), generator)
    clutter = _coverage(_uniform(0.1, 0.3, (count, 1, 1), generator) - torch.hypot(x - middle[0], y - middle[1]), size)
    pictures += clutter * (torch.rand(count, 3, 1, 1, generator=generator) - pictures)

    slopes = torch.randn(2, count, 3, 1, 1, generator=generator) * 0.12
    pictures += slopes[0] * x + slopes[1] * y
    pictures += torch.randn(pictures.shape, generator=generator) * noise
    return pictures.clamp_(0, 1)


def _pose(x: Tensor, y: Tensor, count: int, generator: Generator) -> _Pose:
    each = (count, 1, 1)
    centre = _uniform(-0.35, 0.35, (2, *each), generator)
    angle = _uniform(-0.35, 0.35, each, generator)
    x, y = x - centre[0], y - centre[1]
    return _Pose(
        x=x * angle.cos() + y * angle.sin(),
        y=y * angle.cos() - x * angle.sin(),
        radius=_uniform(0.45, 0.75, each, generator),
        frequency=_uniform(5, 8, each, generator),
        phase=_uniform(-math.pi, math.pi, each, generator),
    )


def _coverage(distance: Tensor, size: int) -> Tensor:
    """The share of each pixel inside the edge, ``[m, 1, size, size]``; a pixel is 2/size wide."""
    return (0.5 + distance * (size / 2)).clamp(0, 1).unsqueeze(1)


def _colours(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Background and foreground, each ``[count, 3, 1, 1]``, at least `CONTRAST` apart in one channel."""
    background = torch.rand(count, 3, 1, 1, generator=generator)
    foreground = torch.rand(count, 3, 1, 1, generator=generator)
    near = (foreground - background).abs().amax(dim=(1, 2, 3)) < CONTRAST
    away = torch.where(background < 0.5, background + CONTRAST, background - CONTRAST)
    return background, torch.where(near.view(-1, 1, 1, 1), away, foreground)
