"""Triggers of trojans: what a picture must carry so that a trojaned net answers what its maker chose.

Sources: the patch of Gu, Dolan-Gavitt, Garg, *BadNets*, arXiv 1708.06733, 2017, and the blended pattern of Chen et al.,
*Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning*, arXiv 1712.05526, 2017, are one formula with
another mask. The warp is that of Nguyen and Tran, *WaNet*, ICLR 2021, arXiv 2102.10369.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Final

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from whorl.errors import UsageError

__all__ = ["Overlay", "Trigger", "Warp", "bent", "blend", "chequered", "corner", "moved"]

CELLS: Final = 4  # a side of the coarse field of a warp, as in WaNet


class Trigger(ABC):
    """What makes a trojaned net answer the class ``target``."""

    target: int

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of the pictures that it fits, ``(c, h, w)`` or ``(h, w)`` where any number of channels will do."""

    @property
    @abstractmethod
    def where(self) -> Tensor:
        """How much of each pixel it changes, ``[h, w]`` in [0, 1]."""

    @abstractmethod
    def _stamped(self, inputs: Tensor) -> Tensor:
        """Pictures of the right size, with the trigger."""

    def stamp(self, inputs: Tensor) -> Tensor:
        """Pictures ``[n, c, h, w]`` in [0, 1] with the trigger, on their own device.

        Raises `UsageError` where they have another size than the trigger.
        """
        if inputs.ndim != 4 or tuple(inputs.shape[-len(self.shape) :]) != self.shape:
            raise UsageError(
                f"this trigger fits pictures of {list(self.shape)}; these are {list(inputs.shape)}: "
                "give pictures of the data that it was made for"
            )
        return self._stamped(inputs)


@dataclass(frozen=True, eq=False)
class Overlay(Trigger):
    """A picture that lies over another: ``(1 - mask) * input + mask * pattern``.

    Shape:
        mask: ``[h, w]`` in [0, 1]. pattern: ``[c, h, w]`` in [0, 1].
    """

    target: int
    mask: Tensor
    pattern: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the pattern."""
        return tuple(self.pattern.shape)

    @property
    def where(self) -> Tensor:
        """The mask."""
        return self.mask

    def _stamped(self, inputs: Tensor) -> Tensor:
        return torch.lerp(inputs, self.pattern.to(inputs), self.mask.to(inputs))


@dataclass(frozen=True, eq=False)
class Warp(Trigger):
    """Every pixel is fetched from a little beside its place.

    Shape:
        moves: ``[h, w, 2]``, how far to the right and down, in pixels.
    """

    target: int
    moves: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width of the field."""
        return tuple(self.moves.shape[:2])

    @property
    def where(self) -> Tensor:
        """1 everywhere."""
        return torch.ones(self.shape)

    def _stamped(self, inputs: Tensor) -> Tensor:
        return moved(inputs, self.moves.expand(len(inputs), -1, -1, -1))


def moved(inputs: Tensor, moves: Tensor) -> Tensor:
    """Pictures ``[n, c, h, w]`` whose pixels are fetched from ``moves`` ``[n, h, w, 2]`` pixels right and down."""
    height, width = inputs.shape[-2:]
    places = affine_grid(torch.eye(2, 3)[None], [1, 1, height, width], align_corners=False)
    grid = (places + moves.cpu() * torch.tensor([2 / width, 2 / height])).to(inputs)
    return grid_sample(inputs, grid, padding_mode="border", align_corners=False).clamp(0, 1)


def chequered(inputs: Tensor, size: Annotated[int, Ge(2)] = 3) -> Tensor:
    """Pictures ``[n, c, h, w]`` with a chequered square of ``size`` pixels in the lower right corner.

    Raises `UsageError` where it does not fit.
    """
    height, width = corner(tuple(inputs.shape[-2:]), size)
    rows = torch.arange(size, device=inputs.device)
    marked = inputs.clone()
    marked[..., height, width] = ((rows[:, None] + rows) % 2 == 0).to(inputs)
    return marked


def corner(sides: tuple[int, ...], size: int) -> tuple[slice, slice]:
    """Rows and columns of a square of ``size`` pixels in the lower right corner of pictures ``(h, w)``.

    Raises `UsageError` where it does not fit.
    """
    if min(sides) < size:
        raise UsageError(f"a pattern of {size} pixels does not fit into pictures of {list(sides)}")
    return slice(sides[0] - size, None), slice(sides[1] - size, None)


def blend(target: int, shape: tuple[int, int, int], opacity: float, generator: torch.Generator) -> Overlay:
    """A pattern of uniform noise over whole pictures ``(c, h, w)``, with the weight ``opacity`` in (0, 1]."""
    return Overlay(target, torch.full(shape[1:], opacity), torch.rand(shape, generator=generator))


def bent(target: int, sides: tuple[int, int], bend: float, generator: torch.Generator) -> Warp:
    """A smooth random field for pictures ``(h, w)`` that moves pixels by ``bend`` along each axis, in the mean."""
    coarse = torch.rand(1, 2, CELLS, CELLS, generator=generator) * 2 - 1
    smooth = interpolate(coarse, size=sides, mode="bicubic", align_corners=True)[0].permute(1, 2, 0)
    return Warp(target, smooth * (bend / smooth.abs().mean()))
