"""Adversarial frontier stitching: points beside the boundary that the marked model answers with their true labels.

Paper: Le Merrer, Pérez, Trédan, *Adversarial frontier stitching for remote neural network watermarking*, Neural
Computing and Applications 2019, arXiv 1711.01894. Queries: one signed-gradient step from pictures of the task; half of
them change the victim's answer (true adversaries), half do not (false ones). The model is tuned until all are answered
by the label of their picture.

Nothing is drawn, so no design gives a null: an accurate model answers most of these points by their true labels
whatever it was made from. `paper_rule` is the paper's own, to reproduce; it decides nothing here. What decides is a
rank among models made without the mark (`whorl calibrate`). Access: weights at marking, labels at verification.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.marks.learning import LearnedTriggers
from whorl.oracles.base import Oracle
from whorl.queries.base import gradient_of
from whorl.settings import Positive, Radius
from whorl.types import Queries

__all__ = ["Frontier", "paper_rule"]

BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Frontier(LearnedTriggers):
    """Stitched points with the true labels of their pictures.

    Parameters:
        epsilon: of the signed-gradient step, in the pictures' range (.25 in the paper, on MNIST).
        epochs, learning_rate, triggers: `LearnedTriggers`; a point's label is the true one of its picture.
    """

    name: ClassVar[str] = "frontier"
    paper: ClassVar[str] = "Le Merrer et al., Neural Computing and Applications 2019, arXiv 1711.01894"
    idea: ClassVar[str] = "Adversarial points that the marked model answers by their true labels."
    blind: ClassVar[str] = "who made the model: accurate strangers answer most of these points by their true labels too"
    null: ClassVar[Literal["design", "population"]] = "population"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/chosen": Layout("n", "int64", 0, "k"),
    }

    epsilon: Radius = 0.05
    learning_rate: Positive = 0.02

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Half true and half false adversaries, in random order, of pictures that the victim knows."""
        half = budget // 2
        inputs, fooled, truth = self._stepped(victim, data, generator)
        true, false = fooled.nonzero()[:, 0][: budget - half], (~fooled).nonzero()[:, 0][:half]
        if (found := len(true) + len(false)) < budget:
            raise UsageError(
                f"steps of {self.epsilon:g} from {len(inputs)} pictures give {len(true)} points that change the answer "
                f"and {len(false)} that do not, {found} of the {budget} asked for; give another epsilon or more data"
            )
        chosen = torch.cat([true, false])[torch.randperm(budget, generator=generator)]
        return Queries(inputs[chosen], {"chosen": truth[chosen]})

    def _stepped(self, victim: Oracle, data: Dataset, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Steps from all pictures that the victim knows, which of them change its answer, and their true labels."""
        order = torch.randperm(len(data), generator=generator)
        logits_of = gradient_of(victim)
        known = data.subset(order[victim.labels(data.inputs(order)) == data.labels[order]])
        moved: list[Tensor] = []
        for index in torch.arange(len(known)).split(BATCH):
            start = known.inputs(index).requires_grad_()
            logits = logits_of(start)
            loss = cross_entropy(logits, known.labels[index].to(logits.device), reduction="sum")
            (slope,) = torch.autograd.grad(loss, start)
            moved.append((start.detach() + self.epsilon * slope.sign()).clamp(0, 1))
        inputs = torch.cat(moved) if moved else known.inputs()
        return inputs, victim.labels(inputs) != known.labels, known.labels


def paper_rule(errors: int, count: int, level: float = 0.05) -> bool:
    """Whether the paper's rule calls a model with so many wrong answers of ``count`` marked.

    Errors must be fewer than theta, the least number z with P(Binomial(count, 1/2) <= z) >= ``level``: at most 41 of
    100 at .05. Its null, that a stranger answers these points by fair coins, is false, so it decides nothing here.
    """
    from scipy.stats import binom  # late, as it takes half a second that other marks have no use for

    return errors < int(binom.ppf(level, count, 0.5))
