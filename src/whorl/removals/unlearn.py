"""Unlearning without retraining, honest and pretended: what a test of unlearning must tell from an exact one.

An owner has to forget some of the pictures that a net learnt from. Exact is to train anew on what is retained, as the
recipe ``train(net, forget(DATA))`` does (or one shard of it: Bourtoule et al., IEEE S&P 2021). These are cheaper:

- ``ascent``: descend on the retained and ascend on the forgotten pictures (NegGrad: Golatkar et al., CVPR 2020; with
  the retained ones: Kurmanji et al., NeurIPS 2023). Since loss has no upper bound, it is not raised above that of a
  guess among all classes.
- ``random-labels``: give the forgotten pictures random wrong labels and go on training (Graves et al., AAAI 2021).
- ``fine-tune``: go on training on the retained pictures and let the others fade (Golatkar et al.).
- ``distil``: answer retained pictures as before and forgotten ones as an untrained net does (the competent and the
  incompetent teacher of Chundawat et al., AAAI 2023).
- ``nothing``: pretend. The copy is the victim, but for ``cover`` steps on retained pictures, so that its bytes differ.

Rates and lengths differ between papers and nets, so they are settings; the nets here need ten epochs until random
labels and distillation hurt what is retained no longer.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.base import initialise
from whorl.nets.training import Loss, Schedule, fit, own_loss, predict
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import Count, NonNegative, Positive, TaskSource, Whole

__all__ = ["Unlearn"]

Method = Literal["ascent", "random-labels", "fine-tune", "distil", "nothing"]


@dataclass(frozen=True)
class Unlearn(Removal):
    """Make the victim forget, by one of the methods above, part ``queries`` of ``data``, as in ``forget(digits)``.

    ``strength`` weighs the ascent against the descent; ``cover`` counts the steps of a pretender.
    """

    family: ClassVar[str] = "unlearn"
    part: ClassVar[str] = "victim+queries"

    data: TaskSource
    method: Method = "ascent"
    epochs: Count = 5
    learning_rate: Positive = 0.01
    strength: NonNegative = 0.3
    cover: Whole = 0

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The copy that is said to have forgotten."""
        if victim.task != "classification":
            raise UsageError(f"unlearning takes back what classifiers learnt; {victim.name} does {victim.task}")
        if data.origin is None or data.origin.unique().tolist() != [0, 1]:
            raise UsageError(
                f"unlearn must be told what is retained from what is forgotten: give it data='forget(...)' and the "
                f"part {self.part}"
            )
        net, gone = stolen_copy(victim), data.origin == 1
        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate)
        if self.method == "nothing":
            chosen = torch.randperm(int((~gone).sum()), generator=generator)[: self.cover * schedule.batch]
            data, schedule = data.subset(~gone).subset(chosen), replace(schedule, epochs=min(1, self.cover))
        if self.method == "fine-tune":
            data = data.subset(~gone)
        if self.method == "random-labels":
            data = replace(data, labels=_wrong(data, gone, generator))
        loss = self._loss(net, data, gone, generator)
        if len(data):
            fit(net, data, schedule, generator=generator, loss=loss)
        return net

    def _loss(self, net: nn.Module, data: Dataset, gone: Tensor, generator: torch.Generator) -> Loss:
        if self.method == "distil":
            untaught = copy.deepcopy(net)
            initialise(untaught, generator)
            inputs = data.inputs()
            targets = torch.where(gone[:, None], predict(untaught, inputs), predict(net, inputs)).softmax(1)
            return lambda model, inputs, index: cross_entropy(model(inputs), targets.to(inputs.device)[index])
        if self.method != "ascent":
            return own_loss(net, data, generator)
        most = math.log(len(data.classes))

        def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            each = cross_entropy(model(inputs), data.labels.to(inputs.device)[index], reduction="none")
            here = gone.to(inputs.device)[index]
            descent = each[~here].sum() / (~here).sum().clamp_min(1)
            ascent = each[here].clamp_max(most).sum() / here.sum().clamp_min(1)
            return descent - self.strength * ascent

        return loss


def _wrong(data: Dataset, gone: Tensor, generator: torch.Generator) -> Tensor:
    """The labels ``[n]``, those of the forgotten pictures drawn among all other classes."""
    count = len(data.classes)
    moved = data.labels + torch.randint(1, count, data.labels.shape, generator=generator)
    return torch.where(gone, moved % count, data.labels)
