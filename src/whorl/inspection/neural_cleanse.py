"""Neural Cleanse: the smallest patch that turns any picture into a class.

Paper: Wang et al., *Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks*, IEEE S&P 2019,
section IV. For each class y: min over mask m and pattern d of CE(f((1 - m) x + m d), y) + c |m|, with m and d as
(tanh + 1) / 2 of free numbers, and the cost c raised while the patch works and lowered while it does not. All classes
and restarts are one batch here, each with a cost of its own.

The paper calls a net trojaned whose smallest mask lies more than two MAD below the median. On the small nets of
`benchmarks/trojans.py` that rule did about as well as the rank among clean nets; it states no error rate, and the rank
does (`whorl.detection.trojans`). A warped trigger, which no patch imitates, was not found there by either.

Steps per class: the paper's code takes up to 1,000 batches of 32; masks at the rate .1 and factors 2 and 2^1.5 are its
own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset
from whorl.inspection.base import Scores, Statistic, counted
from whorl.oracles.torch import TorchOracle
from whorl.settings import Count, Multiple, Positive, Share
from whorl.types import Access

__all__ = ["NeuralCleanse"]


@dataclass(frozen=True, kw_only=True)
class NeuralCleanse(Statistic):
    """Size of the smallest mask for each class, in pixels; the whole picture where none was found.

    Parameters:
        steps: of Adam, for each restart.
        restarts: masks that each class begins from; the smallest that works counts.
        batch: pictures in a step, drawn anew for each and shared by all classes.
        learning_rate: of mask and pattern, with betas .5 and .9 as in the paper's code.
        success: share of a batch that must fall into the class for a mask to count.
        cost: c at the first step.
        factor: what c is multiplied by after ``patience`` steps that worked, and its 1.5th power divides it after as
            many that did not.
    """

    name: ClassVar[str] = "neural_cleanse"
    paper: ClassVar[str] = "Wang et al., IEEE S&P 2019"
    idea: ClassVar[str] = "The smallest patch that turns any picture into a class; one class needs a far smaller one."
    blind: ClassVar[str] = "warped triggers; it is said, also large ones, those of one source class, several targets"
    needs: ClassVar[Access] = Access.GRADIENTS
    worse: ClassVar = "small"
    pictures: ClassVar[int] = 64

    steps: Count = 300
    restarts: Count = 2
    batch: Count = 32
    learning_rate: Positive = 0.1
    success: Share = 0.97
    cost: Positive = 1e-3
    factor: Multiple = 2.0
    patience: Count = 5

    def scores(self, net: TorchOracle, data: Dataset, *, generator: torch.Generator) -> Scores:
        """Mask sizes, masks and patterns for each class."""
        ask, inputs = counted(net), data.inputs()
        channels, height, width = data.input_shape
        tries = self.restarts * net.classes
        targets = torch.arange(net.classes).repeat(self.restarts)
        masks = torch.randn(tries, 1, height, width, generator=generator).requires_grad_()
        patterns = torch.randn(tries, channels, height, width, generator=generator).requires_grad_()
        adam = torch.optim.Adam([masks, patterns], lr=self.learning_rate, betas=(0.5, 0.9))
        costs, best = _Costs(self, tries), _Best(tries, data.input_shape)
        for _ in range(self.steps):
            drawn = inputs[torch.randint(len(inputs), (self.batch,), generator=generator)]
            mask, pattern = (torch.tanh(masks) + 1) / 2, (torch.tanh(patterns) + 1) / 2
            stamped = torch.lerp(drawn[None], pattern[:, None], mask[:, None])
            logits = ask(stamped.flatten(0, 1).to(net.device)).cpu().unflatten(0, (tries, self.batch))
            size = mask.sum((1, 2, 3))
            wanted = targets[:, None].expand(-1, self.batch)
            lost = cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").unflatten(0, (tries, -1))
            adam.zero_grad()
            (lost.mean(1) + costs.now * size).sum().backward()
            works = (logits.detach().argmax(2) == wanted).double().mean(1) >= self.success
            best.take(works, size.detach(), mask.detach(), pattern.detach())
            costs.move(works)
            adam.step()
        return best.of_classes(self.restarts)


class _Costs:
    """The cost c of each mask, moved by whether it works."""

    def __init__(self, settings: NeuralCleanse, tries: int) -> None:
        self._settings = settings
        self.now = torch.full((tries,), settings.cost)
        self._worked = torch.zeros(tries, dtype=torch.int64)
        self._failed = torch.zeros(tries, dtype=torch.int64)

    def move(self, works: Tensor) -> None:
        self._worked, self._failed = (self._worked + 1) * works, (self._failed + 1) * ~works
        up, down = self._worked >= self._settings.patience, self._failed >= self._settings.patience
        factor = self._settings.factor
        self.now = torch.where(up, self.now * factor, torch.where(down, self.now / factor**1.5, self.now))
        self._worked, self._failed = self._worked * ~up, self._failed * ~down


class _Best:
    """The smallest mask that worked, of each try."""

    def __init__(self, tries: int, shape: tuple[int, int, int]) -> None:
        channels, height, width = shape
        self.sizes = torch.full((tries,), float(height * width))
        self.masks = torch.ones(tries, 1, height, width)
        self.patterns = torch.full((tries, channels, height, width), 0.5)

    def take(self, works: Tensor, sizes: Tensor, masks: Tensor, patterns: Tensor) -> None:
        better = works & (sizes < self.sizes)
        self.sizes[better], self.masks[better], self.patterns[better] = sizes[better], masks[better], patterns[better]

    def of_classes(self, restarts: int) -> Scores:
        sizes, which = self.sizes.view(restarts, -1).min(0)
        classes = torch.arange(len(sizes))
        chosen = which * len(sizes) + classes
        return Scores(sizes, self.masks[chosen, 0], self.patterns[chosen])
