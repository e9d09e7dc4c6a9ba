"""Oracles that treat a question before the model sees it: filters, noise, and votes over noisy copies.

Sources: the input transformations of Lukas et al., *SoK: How Robust is Image Classification Deep Neural Network
Watermarking?*, IEEE S&P 2022 (flip, Gaussian, mean and median smoothing, noise, coarse levels, JPEG); Cohen et al.,
*Certified Adversarial Robustness via Randomized Smoothing*, ICML 2019, algorithm 1 (votes). Noise follows from the
picture and a seed (`whorl.oracles.chance`), and noisy pictures are cut to [0, 1], where Cohen et al. cut nothing.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, one_hot, pad

from whorl.errors import UsageError
from whorl.oracles.base import Chunk, Oracle
from whorl.oracles.chance import normal
from whorl.oracles.wrappers import Wrapper
from whorl.types import Access

__all__ = ["FILTERS", "Filter", "Filtered", "Kind", "Smoothed", "blur", "jpeg", "levels", "mean", "median", "mirror"]

ASKED: Final = 4096  # noisy copies in memory at once


def mirror(images: Tensor) -> Tensor:
    """Pictures ``[n, c, h, w]`` with left and right exchanged."""
    return images.flip(3)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Pictures ``[n, c, h, w]`` under a Gaussian of ``sigma`` pixels, cut at three sigma; edges repeat."""
    channels, reach = images.shape[1], math.ceil(3 * sigma)
    line = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float32) ** 2) / (2 * sigma**2))
    line = (line / line.sum()).expand(channels, 1, 1, -1)
    rows = conv2d(pad(images, (reach, reach, 0, 0), mode="replicate"), line, groups=channels)
    return conv2d(pad(rows, (0, 0, reach, reach), mode="replicate"), line.transpose(2, 3), groups=channels)


def mean(images: Tensor, side: int) -> Tensor:
    """The mean of the ``side`` x ``side`` pixels around each; edges repeat."""
    return avg_pool2d(pad(images, (side // 2,) * 4, mode="replicate"), side, stride=1)


def median(images: Tensor, side: int) -> Tensor:
    """The median of the ``side`` x ``side`` pixels around each; edges repeat."""
    around = pad(images, (side // 2,) * 4, mode="replicate").unfold(2, side, 1).unfold(3, side, 1)
    return around.flatten(4).median(4).values


def levels(images: Tensor, count: int) -> Tensor:
    """Each value rounded to one of ``count`` equally spaced ones from 0 to 1; a depth of b bits has 2^b."""
    return (images * (count - 1)).round() / (count - 1)


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Grey or colour pictures after a JPEG file of ``quality`` 1 to 100."""
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    read: list[np.ndarray] = []
    for picture in pixels:
        file = io.BytesIO()
        Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture).save(file, "JPEG", quality=quality)
        read.append(np.asarray(Image.open(file)).reshape(picture.shape))
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).float() / 255 if read else images


@dataclass(frozen=True)
class Filter:
    """One kind of treatment: what it does, what its strength means, and which strengths have a sense.

    ``usual`` is what watermark removal was tried with; ``flat`` filters also take rows of features.
    """

    treat: Callable[[Tensor, float], Tensor] | None
    meaning: str
    usual: float
    allowed: Callable[[float], bool]
    flat: bool = False


def _odd(side: float) -> bool:
    return side in range(3, 64, 2)


Kind = Literal["flip", "blur", "mean", "median", "noise", "levels", "jpeg"]
FILTERS: Final[Mapping[Kind, Filter]] = {
    "flip": Filter(lambda images, _: mirror(images), "is 1", 1, lambda strength: strength == 1),
    "blur": Filter(blur, "is a sigma in (0, 10] pixels", 0.5, lambda sigma: 0 < sigma <= 10),
    "mean": Filter(lambda images, side: mean(images, int(side)), "is an odd side from 3 pixels", 3, _odd),
    "median": Filter(lambda images, side: median(images, int(side)), "is an odd side from 3 pixels", 3, _odd),
    "noise": Filter(None, "is a standard deviation in (0, 1]", 0.01, lambda sigma: 0 < sigma <= 1, flat=True),
    "levels": Filter(
        lambda images, count: levels(images, int(count)),
        "is a number of levels, 2 to 256",
        16,
        lambda count: count in range(2, 257),
        flat=True,
    ),
    "jpeg": Filter(
        lambda images, quality: jpeg(images, int(quality)), "is a quality, 1 to 100", 95, lambda q: q in range(1, 101)
    ),
}


class Filtered(Wrapper):
    """The model behind a filter of `FILTERS`; what it answers of the treated picture is passed on up to logits.

    Parameters:
        strength: as the filter's ``meaning`` says; None for its ``usual`` one.
        seed: of the noise, 0 to 2^63.

    Raises:
        UsageError: no such filter, a strength without a meaning, or inputs that are no such pictures.
    """

    def __init__(self, inner: Oracle, kind: Kind, strength: float | None = None, *, seed: int = 0) -> None:
        if kind not in FILTERS:
            raise UsageError(f"no such filter: {kind!r}. Known: {', '.join(FILTERS)}.")
        chosen = FILTERS[kind]
        strength = chosen.usual if strength is None else strength
        if not chosen.allowed(strength):
            raise UsageError(f"the strength of the filter {kind} {chosen.meaning}, not {strength}")
        if inner.input_shape[1] == 1 and not chosen.flat:
            raise UsageError(f"{inner.name} takes rows of features, which {kind} cannot treat; noise and levels can")
        if kind == "jpeg" and inner.input_shape[0] not in (1, 3):
            raise UsageError(f"a JPEG file has 1 or 3 channels; {inner.name} takes {inner.input_shape[0]}")
        change = f"Filtered(kind={kind}, strength={strength}{f', seed={seed}' if kind == 'noise' else ''})"
        super().__init__(inner, access=min(inner.access, Access.LOGITS), change=change)
        self.kind: Kind = kind
        self.strength, self.seed = float(strength), seed

    def treated(self, inputs: Tensor) -> Tensor:
        """The pictures ``[n, c, h, w]`` in [0, 1] as the model sees them."""
        treat = FILTERS[self.kind].treat
        if treat is not None:
            return treat(inputs, self.strength).clamp(0, 1)
        noise = normal(inputs, self.input_shape, self.seed).to(inputs.device)
        return (inputs + self.strength * noise).clamp(0, 1)

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        yield from self.inner.stream(self.treated(inputs))


class Smoothed(Wrapper):
    """Votes of the model's labels over ``votes`` copies of each picture under Gaussian noise ``sigma``.

    Where the model grants probabilities the shares of the votes are given, else the class with most of them, the lowest
    of equals. One question costs ``votes`` questions to the model.

    Raises:
        UsageError: sigma outside (0, 10], votes outside 1..100,000, or a model without classes.
    """

    def __init__(self, inner: Oracle, sigma: float, votes: int, *, seed: int = 0) -> None:
        if not 0 < sigma <= 10 or not 1 <= votes <= 100_000:
            raise UsageError(f"smoothing needs a sigma in (0, 10] and 1 to 100,000 votes, not {sigma} and {votes}")
        change = f"Smoothed(sigma={sigma}, votes={votes}, seed={seed})"
        super().__init__(inner, access=min(inner.access, Access.PROBABILITIES), change=change)
        self.sigma, self.votes, self.seed = sigma, votes, seed

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        for positions in torch.arange(len(inputs)).split(max(1, ASKED // self.votes)):
            pictures = inputs[positions]
            noise = normal(pictures, (self.votes, *self.input_shape), self.seed).to(inputs.device)
            copies = (pictures[:, None] + self.sigma * noise).clamp(0, 1)
            votes = one_hot(self.inner.labels(copies.flatten(0, 1)), self.classes).view(-1, self.votes, self.classes)
            counts = votes.sum(1)
            yield positions, counts.argmax(1) if self.access is Access.LABELS else counts / self.votes
