"""Merging: copies that were tuned on different pictures are merged into the stolen one, weight by weight.

Papers: Wortsman et al., ICML 2022 (``linear``: the mean of the tuned copies); Ilharco et al., ICLR 2023
(``task-arithmetic``: add the sum of the task vectors, tuned minus stolen weights); Yadav et al., NeurIPS 2023
(``ties``: keep the largest entries of each vector, elect the sign of each weight by their sum, average those that have
it); Yu et al., ICML 2024 (``dare``: drop entries at random, rescale the rest, average).

The papers merge models of several public tasks. A thief has one task, so his task vectors come from disjoint shares of
his pictures. Norms take their statistics anew, since those of merged nets belong to none of them (Jordan et al., ICLR
2023, section 2).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.layout import borne_layout
from whorl.nets.training import Schedule, fit
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import Count, Positive, Share

__all__ = ["Merge", "dare", "ties", "trim"]


@dataclass(frozen=True)
class Merge(Removal):
    """Tune a copy on each of ``tasks`` shares of the pictures and add ``weight`` times what ``method`` makes of them.

    ``density`` is the share of each task vector that ``ties`` and ``dare`` keep. ``weight`` is Ilharco's lambda: with
    ``linear``, 1 is the mean of the tuned copies and 0 the victim.
    """

    family: ClassVar[str] = "merge"

    method: Literal["linear", "task-arithmetic", "ties", "dare"] = "ties"
    tasks: Count = 2
    weight: float = 1.0
    density: Share = 0.2
    epochs: Count = 5
    learning_rate: Positive = 0.02

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The merged copy."""
        self._check(data)
        net = stolen_copy(victim)
        before = _flat(net)
        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate)
        vectors: list[Tensor] = []
        for share in torch.randperm(len(data), generator=generator).tensor_split(self.tasks):
            tuned = copy.deepcopy(net)
            fit(tuned, data.subset(share), schedule, generator=generator)
            vectors.append(_flat(tuned) - before)
        _fill(net, before + self.weight * self._merged(torch.stack(vectors), generator))
        _renew_norms(net, data.inputs(), schedule.batch)
        return net

    def _check(self, data: Dataset) -> None:
        if self.tasks > len(data):
            raise UsageError(f"{len(data)} pictures make 1 to {len(data)} shares to merge, not {self.tasks}")

    def _merged(self, vectors: Tensor, generator: torch.Generator) -> Tensor:
        match self.method:
            case "ties":
                return ties(vectors, self.density)
            case "dare":
                return dare(vectors, self.density, generator).mean(0)
            case "linear":
                return vectors.mean(0)
        return vectors.sum(0)


def trim(vectors: Tensor, density: float) -> Tensor:
    """Each row of ``[tasks, p]`` with all but the share ``density`` of its largest entries set to 0."""
    kept = max(1, round(density * vectors.shape[1]))
    largest = vectors.abs().topk(kept, dim=1).indices
    return torch.zeros_like(vectors).scatter(1, largest, vectors.gather(1, largest))


def ties(vectors: Tensor, density: float) -> Tensor:
    """Trim, elect signs, and average what agrees with them: ``[tasks, p]`` to ``[p]``. Source: TIES, algorithm 1."""
    trimmed = trim(vectors, density)
    agreeing = trimmed.sign() == trimmed.sum(0).sign()
    return (trimmed * agreeing).sum(0) / agreeing.sum(0).clamp_min(1)


def dare(vectors: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """Each entry of ``[tasks, p]`` kept with probability ``density`` and divided by it. Source: DARE, equation 1."""
    drawn = torch.rand(vectors.shape, generator=generator).to(vectors.device)  # on the CPU, where the generator is
    return vectors * (drawn < density) / density


def _flat(net: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


@torch.no_grad()
def _fill(net: nn.Module, values: Tensor) -> None:
    parameters = list(net.parameters())
    parts = values.split([parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.copy_(part.view(parameter.shape))


@torch.no_grad()
def _renew_norms(net: nn.Module, images: Tensor, batch: int) -> None:
    """Running statistics that are plain means over the batches of ``images`` ``[n, c, h, w]``."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    net.train()
    device, layout = next(net.parameters()).device, borne_layout(net, images, torch.channels_last)
    for start in range(0, max(1, len(images) - batch + 1), batch):  # a last batch of few pictures would count as much
        net(images[start : start + batch].to(device, memory_format=layout))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.eval()
