"""What a lineup asks: ordinary inputs on which its candidates disagree, and mildly noisy ones.

The choice sees the candidates as rows without names and is the same in whatever order they come, so it can't favour
the victim. Nothing is optimised against a model: no detector of queries has anything to find, and any interface that
gives a label answers.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from whorl.spaces import InputSpace, Pictures

__all__ = ["disputed", "noisy"]

LEAST, MOST = 0.1, 0.25  # standard deviation of the noise; near the data, where models still differ
LIKELY: Final = 1e-12


def disputed(answers: Tensor, count: int) -> Tensor:
    """Positions ``[count]`` of the inputs that candidates answer most unlike each other, most disputed first.

    Classes are counted and the entropy of the count taken; of ties, and of answers without classes, the spread of the
    answers decides (variance over the candidates, summed over the outputs).

    Shape:
        answers: ``[K, n, k]`` probabilities or numbers, or labels ``[K, n]``.
    """
    if answers.ndim == 2:
        return _entropy(answers).argsort(descending=True, stable=True)[:count]
    spread = answers.double().var(0).sum(1)
    between = spread / spread.max().clamp_min(LIKELY)
    votes = _entropy(answers.argmax(2)) if answers.shape[2] > 1 else torch.zeros_like(spread)
    return (votes.round(decimals=9) + 1e-6 * between).argsort(descending=True, stable=True)[:count]


def noisy(inputs: Tensor, space: InputSpace, generator: torch.Generator) -> Tensor | None:
    """The inputs with normal noise of deviation .1 to .25, within the space; None where inputs are no pictures.

    Shape:
        inputs: ``[n, c, h, w]`` in [0, 1]; returned in the same shape.
    """
    if not isinstance(space, Pictures):
        return None
    deviation = LEAST + (MOST - LEAST) * torch.rand(len(inputs), 1, 1, 1, generator=generator)
    return (inputs + deviation * torch.randn(inputs.shape, generator=generator)).clamp(0, 1)


def _entropy(labels: Tensor) -> Tensor:
    """Entropy ``[n]`` of the candidates' votes ``[K, n]``, in nats."""
    classes = int(labels.max()) + 1 if labels.numel() else 1
    shares = torch.zeros(labels.shape[1], classes, dtype=torch.float64)
    shares.scatter_add_(1, labels.T, torch.full(labels.T.shape, 1 / len(labels), dtype=torch.float64))
    return -(shares * shares.clamp_min(LIKELY).log()).sum(1)
