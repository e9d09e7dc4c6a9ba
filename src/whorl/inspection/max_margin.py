"""Maximum margin: how far above all others a class can be driven by any input at all.

Paper: Wang, Xiang, Miller, Kesidis, *MM-BD: Post-Training Detection of Backdoor Attacks with Arbitrary Backdoor Pattern
Types Using a Maximum Margin Statistic*, IEEE S&P 2024, arXiv 2205.06900. For each class the largest logit_y - max of
the others over inputs in the box [0, 1], from random starts; no picture is needed. The authors take 300 steps of SGD at
1e-2 with momentum .2 on the sum over starts; here each start climbs by signed steps that shrink to nothing, which reach
the corners of the box where the maxima lie in fewer.

The authors fit a gamma distribution to all classes but the largest. With ten classes those are three parameters on nine
numbers: see `whorl.detection.trojans.gamma_p_value` and what `benchmarks/trojans.py` measured of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from whorl.data.base import Dataset
from whorl.inspection.base import Scores, Statistic, counted
from whorl.oracles.torch import TorchOracle
from whorl.settings import Count, Radius
from whorl.types import Access

__all__ = ["MaxMargin"]


@dataclass(frozen=True, kw_only=True)
class MaxMargin(Statistic):
    """Largest margin of each class over inputs in the box, at least 0.

    Parameters:
        starts: uniform inputs that each class begins from.
        steps: signed ascents from each.
        step: length of the first of them, in pixel values; it shrinks linearly.
    """

    name: ClassVar[str] = "max_margin"
    paper: ClassVar[str] = "Wang et al., IEEE S&P 2024, arXiv 2205.06900"
    idea: ClassVar[str] = "How far above all others a class can be driven by any input; no picture is needed."
    blind: ClassVar[str] = "warped and large triggers, those of one source class, and whatever leaves margins alike"
    needs: ClassVar[Access] = Access.GRADIENTS
    worse: ClassVar = "large"
    pictures: ClassVar[int] = 0

    starts: Count = 12
    steps: Count = 120
    step: Radius = 0.1

    def scores(self, net: TorchOracle, data: Dataset, *, generator: torch.Generator) -> Scores:
        """Largest margins."""
        ask, shape = counted(net), data.input_shape
        targets = torch.arange(net.classes).repeat_interleave(self.starts)
        inputs = torch.rand(len(targets), *shape, generator=generator)
        mine = torch.nn.functional.one_hot(targets, net.classes).bool()
        best = torch.zeros(len(targets))
        for number in range(self.steps + 1):
            inputs.requires_grad_()
            logits = ask(inputs.to(net.device)).cpu()
            margins = logits[mine] - logits.masked_fill(mine, -torch.inf).amax(1)
            best = torch.maximum(best, margins.detach())
            (slope,) = torch.autograd.grad(margins.sum(), inputs)
            length = self.step * (1 - number / (self.steps + 1))
            inputs = (inputs.detach() + length * slope.sign()).clamp(0, 1)
        return Scores(best.view(net.classes, self.starts).amax(1))
