"""Feature inversion: which class attracts pictures that a generator moves away from the benign features.

After Xu et al., *Towards Reliable and Efficient Backdoor Trigger Inversion via Decoupling Benign Features* (BTI-DBF),
ICLR 2024. The paper is known here from its abstract, so no figure and no setting of it is asserted: a mask of the
benign features is learned (`decoupling`), then a generator makes pictures near clean ones whose masked features stay
and whose others move, and the class that attracts most of them is the culprit.

The generator here is a field that is added to every picture and three convolutions, bounded by ``radius``. All
restarts are one batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from whorl.data.base import Dataset
from whorl.inspection.base import Scores, Statistic
from whorl.inspection.decoupling import benign_mask
from whorl.inspection.features import Cut
from whorl.oracles.torch import TorchOracle
from whorl.settings import Count, NonNegative, Positive, Radius
from whorl.types import Access

__all__ = ["FeatureInversion"]


@dataclass(frozen=True, kw_only=True)
class FeatureInversion(Statistic):
    """Share of clean pictures that the generators move into each class.

    Parameters:
        steps: of Adam, for all generators at once. learning_rate: of the generators.
        restarts: generators; the shares are the mean over them.
        batch: pictures in a step, shared by all generators.
        width: channels of a generator's hidden layers.
        radius: most that a pixel may move.
        rounds: passes over the pictures that the mask learns by. mask_rate: its learning rate. mask_weight: of its
            size.
    """

    name: ClassVar[str] = "feature_inversion"
    paper: ClassVar[str] = "after Xu et al., ICLR 2024, of which the abstract is known"
    idea: ClassVar[str] = "A generator that moves all but the benign features finds the trigger, and with it the class."
    blind: ClassVar[str] = "trojans whose features are also those of the task, and triggers larger than the radius"
    needs: ClassVar[Access] = Access.WEIGHTS
    worse: ClassVar = "large"
    pictures: ClassVar[int] = 64

    steps: Count = 100
    learning_rate: Positive = 0.01
    restarts: Count = 4
    batch: Count = 32
    width: Count = 8
    radius: Radius = 0.5
    rounds: Count = 20
    mask_rate: Positive = 0.01
    mask_weight: NonNegative = 0.75

    def scores(self, net: TorchOracle, data: Dataset, *, generator: torch.Generator) -> Scores:
        """Shares of pictures."""
        cut, inputs = Cut(net, self.name), data.inputs()
        clean = cut.seen(inputs)
        mask = benign_mask(
            cut,
            clean,
            data.labels.to(net.device),
            rounds=self.rounds,
            batch=self.batch,
            learning_rate=self.mask_rate,
            weight=self.mask_weight,
            generator=generator,
        )
        movers = _Movers(data.input_shape, self.restarts, self.width, self.radius, generator)
        adam = torch.optim.Adam(movers.parameters(), lr=self.learning_rate)
        for _ in range(self.steps):
            chosen = torch.randint(len(inputs), (self.batch,), generator=generator)
            made = cut.features(movers(inputs[chosen]).flatten(0, 1)).unflatten(0, (self.batch, self.restarts))
            apart = made - clean[chosen.to(clean.device), None]
            stays, moves = (mask * apart).norm(dim=2), ((1 - mask) * apart).norm(dim=2)
            adam.zero_grad()
            (stays - moves).mean(0).sum().backward()
            adam.step()
        counts = torch.zeros(net.classes, dtype=torch.float64)
        with torch.no_grad():
            for chunk in inputs.split(self.batch):
                fallen = cut.logits(cut.features(movers(chunk).flatten(0, 1))).argmax(1).cpu()
                counts += fallen.bincount(minlength=net.classes)
        return Scores(counts / counts.sum())


class _Movers(nn.Module):
    """Generators side by side: ``[n, c, h, w]`` in [0, 1] to ``[n, generators, c, h, w]`` in [0, 1]."""

    def __init__(
        self, shape: tuple[int, int, int], count: int, width: int, radius: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.count, self.radius = count, radius
        widths = (shape[0], width, width, shape[0])
        self.field = nn.Parameter(0.1 * torch.randn(count, *shape, generator=generator))
        self.kernels = nn.ParameterList(
            torch.randn(count * after, before, 3, 3, generator=generator) * (2 / (9 * before)) ** 0.5
            for before, after in pairwise(widths)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """The pictures that each generator makes of each input."""
        hidden = inputs.repeat(1, self.count, 1, 1)
        for number, kernel in enumerate(self.kernels):
            hidden = nn.functional.conv2d(
                hidden.relu() if number else hidden - 0.5, kernel, padding=1, groups=self.count
            )
        moves = torch.tanh(hidden.unflatten(1, (self.count, inputs.shape[1])) + self.field)
        return (inputs[:, None] + self.radius * moves).clamp(0, 1)
