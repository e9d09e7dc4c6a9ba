"""Overwriting: the thief embeds a mark of his own, of the same kind as the owner's, with his own data.

Papers: Uchida et al., ICMR 2017, section 4.4; Darvish Rouhani et al., *DeepSigns*, ASPLOS 2019, section 6.2; Lukas et
al., IEEE S&P 2022 (overwriting). Claimed by all three: the first mark stays readable beside the second. Who has both
marks in a model is not told by the model: the time-stamps of the claims tell who was first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import nn

from whorl.data.base import Dataset
from whorl.expressions import Call
from whorl.marks.making import embed, prepare
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal
from whorl.settings import Count, Named

__all__ = ["Overwrite"]

SECRET = (1 << 63) - 1


@dataclass(frozen=True)
class Overwrite(Removal):
    """Embed another mark, with inputs, draw and training of the thief's own.

    Parameters:
        kind: of the thief's mark, an expression of the marks (`whorl.marks.MARKS`).
        count: how many labels or bits it has.
    """

    family: ClassVar[str] = "overwrite"

    kind: Annotated[str | Call, Named(("whorl.schemes:MARKS",))] = "backdoor"
    count: Count = 100

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The copy that holds the thief's mark too."""
        inputs, training = torch.randint(SECRET, (2,), generator=generator).tolist()
        chance = bytes(torch.randint(256, (32,), generator=generator).tolist())
        prepared = prepare(victim, str(self.kind), data, count=self.count, seed=inputs)
        net, _ = embed(prepared, victim, data, seed=training, chance=chance)
        return net
