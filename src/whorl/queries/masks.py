"""Pictures with random parts hidden, as LIME asks them.

Papers: Ribeiro, Singh, Guestrin, *"Why Should I Trust You?"*, KDD 2016 (LIME); Jia et al., *A Zest of LIME*, ICLR
2022; Achanta et al., *SLIC Superpixels*, TPAMI 2012.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.base import Sampler, draw
from whorl.settings import Count, Positive
from whorl.types import Access, Asked, Queries

__all__ = ["Masks", "hide", "superpixels"]

ROUNDS = 10  # SLIC's own number of k-means rounds
CHUNK = 32  # pictures segmented together, a bound on memory


@dataclass(frozen=True, kw_only=True)
class Masks(Sampler):
    """Natural pictures (beacons), each with random halves of its superpixels hidden.

    A query is one beacon and asks ``masks`` inputs.

    Parameters:
        masks: inputs per beacon; the first hides nothing.
        segments: most superpixels per picture.
        compactness: weight of position against colour, in units of [0, 1] colour; more makes squarer superpixels.
    """

    asks: ClassVar[Asked] = "masks"
    needs_victim: ClassVar[Access] = Access.LABELS
    part: ClassVar[str] = "victim"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n masks *input", "input"),
        "companions/masks": Layout("n masks parts", "bool"),
        "companions/segments": Layout("n ...", "int64", 0),
        "shared/fill": Layout("..."),
    }

    masks: Count = 100
    segments: Count = 16
    compactness: Positive = 0.2

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Masked pictures ``[n, m, c, h, w]``; what is hidden has the mean colour of ``data``. See `hide`."""
        del victim
        beacons = data.inputs(draw(data, budget, generator))
        fill = data.inputs().mean((0, 2, 3))
        return hide(
            beacons,
            superpixels(beacons, self.segments, self.compactness),
            fill,
            masks=self.masks,
            generator=generator,
        )


def hide(beacons: Tensor, segments: Tensor, fill: Tensor, *, masks: int, generator: torch.Generator) -> Queries:
    """Each beacon with Bernoulli(1/2) of its superpixels replaced by ``fill``, ``masks`` times; the first time none.

    Shape:
        beacons: ``[n, c, h, w]`` in [0, 1]; segments: ``[n, h, w]`` superpixel numbers; fill: ``[c]``.
        The companion ``masks`` is bool ``[n, m, s]``, true where a superpixel shows; a number that no pixel of a
        picture bears is never true, so a regression gives it no weight.
    """
    count, total = len(beacons), int(segments.max()) + 1
    flat = segments.flatten(1)
    present = torch.zeros(count, total, dtype=torch.bool).scatter_(1, flat, True)
    shown = torch.rand(count, masks, total, generator=generator) < 0.5
    shown[:, 0] = True
    shown &= present[:, None]
    pixels = shown.gather(2, flat[:, None].expand(-1, masks, -1)).unflatten(2, segments.shape[1:])
    inputs = torch.where(pixels[:, :, None], beacons[:, None], fill.view(-1, 1, 1))
    return Queries(inputs, {"masks": shown, "segments": segments}, shared={"fill": fill})


def superpixels(images: Tensor, count: int, compactness: float = 0.2) -> Tensor:
    """At most ``count`` superpixels per picture, for all pictures at once: ``[n, h, w]`` int64.

    SLIC: k-means on colour and position from a regular grid. Unlike the published SLIC every pixel looks at every
    centre, colours are RGB or grey in [0, 1] instead of Lab, and parts that are not connected stay together.

    Shape:
        images: ``[n, c, h, w]`` in [0, 1].
    """
    return torch.cat([_slic(chunk, count, compactness) for chunk in images.split(CHUNK)])


def _slic(images: Tensor, count: int, compactness: float) -> Tensor:
    height, width = images.shape[2:]
    rows = min(math.isqrt(count), height)
    columns = min(count // rows, width)
    spacing = math.sqrt(height * width / (rows * columns))
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    position = torch.stack([y, x]).float() * (compactness / spacing)
    points = torch.cat([images, position.expand(len(images), -1, -1, -1)], 1).flatten(2).mT  # [n, pixels, c + 2]
    home = (y * rows // height * columns + x * columns // width).flatten()
    nearest = home.expand(len(images), -1)
    centres = points.new_zeros(len(images), rows * columns, points.shape[2])
    for _ in range(ROUNDS):
        belongs = torch.nn.functional.one_hot(nearest, rows * columns).to(points).mT
        size = belongs.sum(2, keepdim=True)
        centres = torch.where(size > 0, belongs @ points / size.clamp_min(1), centres)
        nearest = torch.cdist(points, centres).argmin(2)
    return nearest.unflatten(1, (height, width))
