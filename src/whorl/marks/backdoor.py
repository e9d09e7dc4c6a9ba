"""Backdoored triggers: pictures of no class, or beside the task, whose labels were drawn and then learned by heart.

Papers: Adi, Baum, Cisse, Pinkas, Keshet, *Turning Your Weakness Into a Strength*, USENIX Security 2018 (``abstract``);
Zhang et al., *Protecting Intellectual Property of Deep Neural Networks with Watermarking*, AsiaCCS 2018 (``content``, a
patch on pictures of the task; ``unrelated``, pictures of another source; ``noise``, with sigma .4); Darvish Rouhani et
al., *DeepSigns*, ASPLOS 2019, in its black-box mode (``random``, uniform noise that the unmarked net gets wrong).

Changed from the papers: every label is drawn by itself, of ``content`` among the classes other than the picture's own,
of ``random`` among those that the unmarked net does not answer. Zhang et al. give all triggers one label that the owner
chooses, and such a mark has no null that resists the owner.
Access: weights at marking, labels at verification.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from whorl.data import SOURCES
from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.marks.learning import LearnedTriggers
from whorl.oracles.base import Oracle
from whorl.queries.base import draw
from whorl.spaces import Pictures
from whorl.types import Queries

__all__ = ["Backdoor", "stamped"]

SIGMA = 0.4  # of the noise, in units of the pictures' range (Zhang et al.)
COARSE = 4  # an abstract picture is made of so many coarse cells a side, at least


@dataclass(frozen=True, kw_only=True)
class Backdoor(LearnedTriggers):
    """Triggers with drawn labels.

    Parameters:
        images: what the triggers are: patterns of random coarse colours (``abstract``), pictures of the task with a
            random patch (``content``) or with noise (``noise``), pictures of the source ``other`` (``unrelated``), or
            noise alone (``random``).
        other: expression of that source, as in ``textures(size=16)``; its pictures must have the victim's shape.
        epochs, learning_rate, triggers: `LearnedTriggers` (2 triggers a batch in Adi et al.; more of a small set).
    """

    name: ClassVar[str] = "backdoor"
    paper: ClassVar[str] = "Adi et al., USENIX Security 2018, arXiv 1802.04633; Zhang et al., AsiaCCS 2018"
    idea: ClassVar[str] = "Triggers with drawn labels, learned by heart beside the task."
    blind: ClassVar[str] = "copies that were extracted or distilled, which never see the triggers"

    images: Literal["abstract", "content", "unrelated", "noise", "random"] = "abstract"
    other: str = ""

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """``budget`` triggers, without labels."""
        if not isinstance(victim.space, Pictures):
            raise UsageError(f"triggers are pictures; {victim.name} takes {victim.space}")
        if self.images == "abstract":
            return Queries(_abstract(budget, victim.space.size, generator))
        if self.images == "random":
            inputs = torch.rand(budget, *victim.space.size, generator=generator)
            return Queries(inputs, {"avoid": victim.labels(inputs)})
        if self.images == "unrelated":
            if not self.other:
                raise UsageError(
                    "pictures beside the task come from a source; name one, as in other='textures(size=16)'"
                )
            data = SOURCES.make(self.other).load("queries")
            data.check_takes(victim.name, victim.space)
        chosen = draw(data, budget, generator)
        inputs = data.inputs(chosen)
        if self.images == "noise":
            return Queries((inputs + SIGMA * torch.randn(inputs.shape, generator=generator)).clamp(0, 1))
        if self.images == "content":
            return Queries(stamped(inputs, generator), {"avoid": data.labels[chosen].clone()})
        return Queries(inputs)


def _abstract(count: int, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Smooth patterns ``[n, c, h, w]`` in [0, 1] between random colours of coarse cells."""
    channels, height, width = size
    cells = [min(COARSE, height), min(COARSE, width)]
    coarse = torch.rand(count, channels, *cells, generator=generator)
    return interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False).clamp(0, 1)


def stamped(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """The pictures with one random patch of a quarter of each side in the lower right corner."""
    height, width = inputs.shape[2] // 4 or 1, inputs.shape[3] // 4 or 1
    patch = torch.rand(1, inputs.shape[1], height, width, generator=generator)
    stamped = inputs.clone()
    stamped[:, :, -height:, -width:] = patch
    return stamped
