"""Permuting the units of one net so that the net halfway to another is good: by descent through a projection.

Source: Ainsworth, Hayase, Srinivasa, *Git Re-Basin*, ICLR 2023, arXiv 2209.04836, algorithm 2.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.symmetry.alignment.matching import UnitMatching, match_weights
from whorl.symmetry.alignment.permutations import PermutationSpec, State, permute

__all__ = ["match_straight_through"]


def match_straight_through(
    net: nn.Module,
    other: State,
    spec: PermutationSpec,
    dataset: Dataset,
    *,
    generator: torch.Generator,
    epochs: int = 5,
    learning_rate: float = 1e-2,
    batch: int = 500,
) -> UnitMatching:
    """Minimise the cross-entropy halfway between ``net`` and the permuted ``other`` over permutations.

    Free weights begin at those of ``net``. Each step permutes ``other`` to lie close to them (`match_weights`, from
    where the last step ended), and moves them by the gradient of the loss halfway with respect to what was permuted.
    The permutations of the epoch with the least mean loss are kept; batch norms use the statistics of each batch.

    ``objective`` and ``history`` are losses halfway with their sign turned, so that larger is better.

    Raises:
        UsageError: a data set without classes, or no epochs.
    """
    if not dataset.classes or epochs < 1:
        raise UsageError("straight-through matching learns from labelled pictures, for at least one epoch")
    one = {tensor: value.detach().clone() for tensor, value in net.state_dict().items()}
    free = {tensor: one[tensor].clone().requires_grad_() for tensor in spec.learned}
    optimizer = torch.optim.SGD(free.values(), lr=learning_rate, momentum=0.9)
    halfway = deepcopy(net).train()
    found = match_weights(one, other, spec, generator=generator, restarts=1)
    history: list[float] = []
    best, best_loss = found, float("inf")
    for _ in range(epochs):
        losses: list[float] = []
        for index in torch.randperm(len(dataset), generator=generator).split(batch):
            found = match_weights(
                {**one, **free}, other, spec, generator=generator, start=found.permutations, restarts=1
            )
            loss = _loss(halfway, one, free, permute(other, spec, found.permutations), dataset, index)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        history.append(-sum(losses) / len(losses))
        if -history[-1] < best_loss:
            best, best_loss = found, -history[-1]
    return UnitMatching(best.permutations, -best_loss, tuple(history), (-best_loss,))


def _loss(halfway: nn.Module, one: State, free: State, permuted: State, dataset: Dataset, index: Tensor) -> Tensor:
    """The loss of the mean of two nets, whose gradient reaches ``free`` as if it were the permuted one."""
    mean = {tensor: (one[tensor] + permuted[tensor] + value - value.detach()) / 2 for tensor, value in free.items()}
    return cross_entropy(functional_call(halfway, mean, (dataset.inputs(index),)), dataset.labels[index])
