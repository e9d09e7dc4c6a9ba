"""Pictures made of two: blends, CutMix, and the corner patches that go by that name in a released program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.base import Sampler, draw
from whorl.types import Access, Queries

__all__ = ["Mixtures", "blends", "corner_patches", "cutmix"]


@dataclass(frozen=True, kw_only=True)
class Mixtures(Sampler):
    """Mixtures of random pictures of the owner's held-out data, whatever the victim says of them (SAC-m).

    Parameters:
        patch: ``box`` is CutMix with a box of random place and size for each picture; ``corner`` is what the authors
            of SAC released: one small box near one corner for all, so at most 3.5 % of a picture changes.
    """

    needs_victim: ClassVar[Access] = Access.LABELS
    natural: ClassVar[bool] = True
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/truth": Layout("n 2", "int64", 0),
    }

    patch: Literal["box", "corner"] = "box"

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """The mixtures; the companion ``truth`` ``[n, 2]`` holds the classes of both sources."""
        del victim
        index = draw(data, budget, generator) if self.patch == "corner" else slice(None)
        images, labels = data.inputs(index), data.labels[index]
        if self.patch == "corner":
            mixed, first, second = corner_patches(images, labels, generator)
        else:
            mixed, first, second = cutmix(images, labels, budget, generator)
        return Queries(mixed, {"truth": torch.stack([first, second], 1)})


def blends(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Weighted means of two random pictures, neither of which counts less than .3 (mixup: Zhang et al., ICLR 2018).

    Shape:
        images: ``[n, c, h, w]``. Returns ``[count, c, h, w]``.
    """
    first, second = torch.randint(len(images), (2, count), generator=generator)
    share = 0.3 + 0.4 * torch.rand(count, 1, 1, 1, generator=generator)
    return share * images[first] + (1 - share) * images[second]


def cutmix(images: Tensor, labels: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Paste a random box of one picture into another (Yun et al., ICCV 2019, alpha = 1).

    Shape:
        images: ``[n, c, h, w]``. Returns mixtures ``[count, c, h, w]`` and the labels ``[count]`` of both sources.
    """
    first, second = torch.randint(len(images), (2, count), generator=generator)
    height, width = images.shape[2:]
    side = torch.rand(count, generator=generator).sqrt()  # the box covers a uniformly random share of the picture
    centre = torch.rand(2, count, generator=generator)
    rows, columns = torch.arange(height), torch.arange(width)
    inside_y = ((rows + 0.5) / height - centre[0, :, None]).abs() <= side[:, None] / 2
    inside_x = ((columns + 0.5) / width - centre[1, :, None]).abs() <= side[:, None] / 2
    box = (inside_y[:, :, None] & inside_x[:, None, :])[:, None]
    return torch.where(box, images[second], images[first]), labels[first], labels[second]


def corner_patches(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One box of a fifth of the side, its centre in the outer sixth of both axes, from one permutation for all.

    Shape:
        images: ``[n, c, h, w]``. Returns ``[n, c, h, w]`` and the labels ``[n]`` of both sources.
    """
    order = torch.randperm(len(images), generator=generator)
    mixed = images.clone()
    spans: list[slice] = []
    for size in images.shape[2:]:
        offset = int(torch.randint(max(size // 6, 1), (1,), generator=generator))
        far = bool(torch.randint(2, (1,), generator=generator))
        centre, half = size - 1 - offset if far else offset, max(size // 10, 1)
        spans.append(slice(max(centre - half, 0), min(centre + half, size)))
    mixed[:, :, spans[0], spans[1]] = images[order][:, :, spans[0], spans[1]]
    return mixed, labels, labels[order]
