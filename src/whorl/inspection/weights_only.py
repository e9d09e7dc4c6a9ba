"""Weights only: how strongly the last layer can speak for a class.

After the idea that TrojAI's entrants share (Karra, Ashcraft, Fendley, *The TrojAI Software Framework*, arXiv
2003.07233, 2020): a trojan leaves a row of the head that differs from the others. Nothing is asked and no picture
needed. The net is brought into canonical form first (`whorl.symmetry.canonical`), so that scaling units, folding norms
or adding the same to all rows changes nothing.

The entrants fit a classifier to features of hundreds of nets, clean and trojaned; this is one feature of a class,
ranked among clean nets alone, for whoever has no trojaned ones. `whorl.inspection.fitted` fits such a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import torch

from whorl.data.base import Dataset
from whorl.inspection.base import Scores, Statistic
from whorl.inspection.features import head_of
from whorl.nets.base import Net
from whorl.oracles.torch import TorchOracle
from whorl.symmetry.canonical import canonical
from whorl.types import Access

__all__ = ["WeightsOnly"]

EXAMPLES: Final = 32  # pictures on which the canonical form of a net of one's own has to answer as it does


@dataclass(frozen=True, kw_only=True)
class WeightsOnly(Statistic):
    """A number of each row of the canonical head.

    Parameters:
        feature: ``norm`` is the Euclidean length of the row, ``largest`` its largest weight, ``positive`` the sum of
            its positive weights: what the class gets when every unit that speaks for it is on.
    """

    name: ClassVar[str] = "weights_only"
    paper: ClassVar[str] = "after Karra, Ashcraft, Fendley, arXiv 2003.07233, 2020"
    idea: ClassVar[str] = "A row of the head that is stronger than the others; nothing is asked."
    blind: ClassVar[str] = "large patches, those of one source class, and nets whose training pictures were moved"
    needs: ClassVar[Access] = Access.WEIGHTS
    worse: ClassVar = "large"
    pictures: ClassVar[int] = 0

    feature: Literal["norm", "largest", "positive"] = "norm"

    def scores(self, net: TorchOracle, data: Dataset, *, generator: torch.Generator) -> Scores:
        """The feature of each row."""
        del generator
        form = canonical(net.net, None if isinstance(net.net, Net) else data.inputs(slice(EXAMPLES))).net
        head = head_of(form, net.classes, name=net.name, asker=self.name)
        rows = head.weight.detach().cpu()
        if self.feature == "norm":
            return Scores(torch.linalg.vector_norm(rows, dim=1))
        positive = rows.clamp_min(0)
        return Scores(positive.amax(1) if self.feature == "largest" else positive.sum(1))
