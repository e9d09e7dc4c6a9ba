"""Which features of the last layer tell the task: the mask that BAN and BTI-DBF both learn first."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from whorl.inspection.features import Cut

__all__ = ["benign_mask"]


def benign_mask(
    cut: Cut,
    features: Tensor,
    labels: Tensor,
    *,
    rounds: int,
    batch: int,
    learning_rate: float,
    weight: float,
    generator: torch.Generator,
) -> Tensor:
    """The mask m in [0, 1] for which CE(m h) is low and CE((1 - m) h) high: what clean pictures need has 1.

    Minimises CE(m h) - CE((1 - m) h) + weight |m| / |m|, of which the lower norm is held fixed, by Adam from 1/2, over
    ``rounds`` passes through the features.

    Shape:
        features: ``[n, d]`` of clean pictures; labels: ``[n]``. Returns ``[d]``.
    """
    mask = torch.full(features.shape[1:], 0.5, device=features.device).requires_grad_()
    adam = torch.optim.Adam([mask], lr=learning_rate)
    for _ in range(rounds):
        for chosen in torch.randperm(len(features), generator=generator).to(features.device).split(batch):
            mine, truth = features[chosen], labels[chosen]
            size = mask.abs().sum()
            kept, left = (
                cross_entropy(cut.logits(mask * mine), truth),
                cross_entropy(cut.logits((1 - mask) * mine), truth),
            )
            adam.zero_grad()
            (kept - left + weight * size / size.detach().clamp_min(1e-6)).backward()
            adam.step()
            with torch.no_grad():
                mask.clamp_(0, 1)
    return mask.detach()
