"""Clipped activations: each hidden unit gets the lowest ceiling under which clean pictures are answered as before.

Paper: Wang, Xiang, Miller, Kesidis, *MM-BD: Post-Training Detection of Backdoor Attacks with Arbitrary Backdoor Pattern
Types Using a Maximum Margin Statistic*, IEEE S&P 2024, arXiv 2205.06900 (the mitigation MM-BM). Minimises over the
ceilings z the mean of |g(x; z) - g(x)|^2 over clean pictures, g the logits, plus a cost c |z| that falls by a factor
while too little accuracy is kept and rises while enough is. Weights stay. That the trojan needs activations which clean
pictures do not reach is the paper's premise, and it does not hold for every one (`docs/trojans.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import mse_loss

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.expressions import Call
from whorl.nets.base import Net
from whorl.nets.capped import Capped
from whorl.nets.training import predict
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import Count, Multiple, Positive, Share

__all__ = ["ClipActivations"]

BATCH = 100


@dataclass(frozen=True)
class ClipActivations(Removal):
    """Lower the ceilings of hidden units for ``steps`` of Adam, keeping the share ``kept`` of the thief's accuracy.

    ``cost`` is c at the first step; each step multiplies or divides it by ``factor``. The lowest ceilings, by their
    norm, that kept enough on a batch are taken.
    """

    family: ClassVar[str] = "prune filters"

    kept: Share = 0.95
    cost: Positive = 0.1
    factor: Multiple = 1.2
    steps: Count = 300
    learning_rate: Positive = 0.1

    def outcome(self, architecture: str) -> str:
        """The victim's, with ceilings."""
        return str(Call("capped", (), (("member", architecture),)))

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The copy with ceilings."""
        member = stolen_copy(victim)
        if victim.task != "classification" or not isinstance(member, Net) or isinstance(member, Capped):
            raise UsageError(
                f"ceilings stand on a classifier that names its hidden units and has none; {victim.name} is "
                f"{type(member).__name__}, which does {victim.task}"
            )
        before = predict(member, data.inputs())
        net = Capped.of(member)
        device = next(net.parameters()).device
        ceilings = {name: value.clone().requires_grad_() for name, value in net.ceilings.items()}
        adam = torch.optim.Adam(ceilings.values(), lr=self.learning_rate)
        cost, lowest, chosen = self.cost, float("inf"), {name: value.detach() for name, value in ceilings.items()}
        for _ in range(self.steps):
            index = torch.randint(len(data), (min(BATCH, len(data)),), generator=generator)
            wanted, labels = before[index].to(device), data.labels[index].to(device)
            logits = functional_call(net, dict(ceilings), (data.inputs(index).to(device),))
            height = torch.cat(list(ceilings.values())).norm()
            enough = _right(logits, labels) >= self.kept * _right(wanted, labels)
            if enough and height.item() < lowest:
                lowest, chosen = height.item(), {name: value.detach().clone() for name, value in ceilings.items()}
            adam.zero_grad()
            (mse_loss(logits, wanted) + cost * height / len(ceilings)).backward()
            adam.step()
            cost = cost * self.factor if enough else cost / self.factor
            with torch.no_grad():
                for value in ceilings.values():
                    value.clamp_(min=0)
        net.load_state_dict(chosen, strict=False)
        return net


def _right(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())
