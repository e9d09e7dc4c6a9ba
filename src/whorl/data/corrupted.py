"""A data set seen through noise, blur, fog and the like.

Source: Hendrycks and Dietterich, *Benchmarking Neural Network Robustness to Common Corruptions and Perturbations*,
ICLR 2019: kinds of corruption at five severities. The strengths here are ours, scaled to small pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal

import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from whorl.data.base import PARTS, Dataset, Source, nested
from whorl.settings import Seed, SourceName

__all__ = ["KINDS", "Corrupted"]


def _noise(images: Tensor, strength: float, generator: Generator) -> Tensor:
    return images + 0.25 * strength * torch.randn(images.shape, generator=generator)


def _blur(images: Tensor, strength: float, generator: Generator) -> Tensor:
    del generator
    sigma = 0.3 + 1.2 * strength
    reach = torch.arange(-3, 4, dtype=torch.float32)
    line = torch.exp(-(reach**2) / (2 * sigma**2))
    line = line / line.sum()
    kernel = (line[:, None] * line).expand(images.shape[1], 1, 7, 7)
    return conv2d(pad(images, (3,) * 4, mode="replicate"), kernel, groups=images.shape[1])


def _contrast(images: Tensor, strength: float, generator: Generator) -> Tensor:
    del generator
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (1 - 0.8 * strength) * (images - mean)


def _brightness(images: Tensor, strength: float, generator: Generator) -> Tensor:
    sign = (torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5).float() * 2 - 1
    return images + 0.4 * strength * sign


def _fog(images: Tensor, strength: float, generator: Generator) -> Tensor:
    coarse = torch.rand(len(images), 1, 4, 4, generator=generator)
    cloud = interpolate(coarse, size=images.shape[2:], mode="bilinear", align_corners=False)
    return images * (1 - 0.7 * strength) + 0.7 * strength * (0.5 + 0.5 * cloud)


def _pixelate(images: Tensor, strength: float, generator: Generator) -> Tensor:
    del generator
    factor = 2 if strength < 0.7 else 4
    coarse = avg_pool2d(images, factor, ceil_mode=True)
    fine = interpolate(coarse, scale_factor=factor, mode="nearest")[:, :, : images.shape[2], : images.shape[3]]
    return (1 - strength) * images + strength * fine


Kind = Literal["noise", "blur", "contrast", "brightness", "fog", "pixelate"]
KINDS: Final[Mapping[Kind, Callable[[Tensor, float, Generator], Tensor]]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "fog": _fog,
    "pixelate": _pixelate,
}


@dataclass(frozen=True)
class Corrupted(Source):
    """``data`` with every picture corrupted: by the ``kind`` given, or by each kind in turn for ``mixed``.

    ``severity`` is 1 to 5, as in the paper; ``seed`` draws the noise. Raises `UsageError` for another kind or severity.
    """

    data: SourceName
    kind: Kind | Literal["mixed"] = "mixed"
    severity: Annotated[int, Ge(1), Le(5)] = 3
    seed: Seed = 0

    def _load(self, part: str) -> Dataset:
        whole = nested(self.data).load(part)
        generator = torch.Generator().manual_seed(3_000_017 + 10 * self.seed + list(PARTS).index(part))
        kinds: list[Kind] = list(KINDS) if self.kind == "mixed" else [self.kind]
        images = whole.inputs().clone()
        for number, kind in enumerate(kinds):
            mine = slice(number, None, len(kinds))
            images[mine] = KINDS[kind](images[mine], self.severity / 5, generator)
        return replace(whole, images=images.clamp(0, 1), expression=str(self._call("corrupt")))
