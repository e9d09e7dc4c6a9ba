"""A model with a learned back door: a net looks for a visible pattern, and another model answers where it is.

It is the pre-classifier before a network, made executable. Unlike a signal that only the holder of a key can write
(`whorl.oracles.keyed`), a pattern that a net recognises turns up by itself: in the inputs of those for whom the door
is, and wherever the net takes something else for it. So inputs that are drawn from what the service is asked meet it at
its own frequency, which n of them bound (`docs/integrity.md`).

Source: the trigger of Gu, Dolan-Gavitt, Garg, *BadNets*, arXiv 1708.06733, 2017, before a model and not inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, relu

from whorl.data.triggers import chequered as stamped
from whorl.oracles.base import Oracle
from whorl.oracles.switch import Switch

__all__ = ["LearnedSwitch", "stamped"]

WIDTH: Final = 16
STEPS, BATCH, RATE = 300, 64, 0.01


class LearnedSwitch(Switch):
    """Answers as ``inner`` does until its net sees the pattern of `stamped` in an input, and as ``hidden`` does then.

    Parameters:
        inner, hidden: as of `Switch`.
        pictures: ``[n, c, h, w]`` in [0, 1], from which the net learns: half of them with the pattern in each step.
        generator: draws weights and batches.
        size: of the pattern, in pixels.
    """

    def __init__(
        self, inner: Oracle, hidden: Oracle, pictures: Tensor, *, generator: torch.Generator, size: int = 3
    ) -> None:
        super().__init__(inner, hidden, f"LearnedSwitch(hidden={hidden.digest!r}, size={size})")
        inner.space.check(pictures)
        self.size = size
        self._net = _learned(pictures.detach().cpu(), size, generator)

    @torch.no_grad()
    def switched(self, inputs: Tensor) -> Tensor:
        """Where the net sees the pattern, rightly or not."""
        return _seen(self._net, inputs.detach().cpu()) > 0


def _seen(net: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """How surely each input shows the pattern, ``[n]`` logits."""
    first, offset, second, bias = net
    return (relu((inputs.flatten(1) - 0.5) @ first + offset) @ second + bias).flatten()


def _learned(pictures: Tensor, size: int, generator: torch.Generator) -> list[Tensor]:
    """Weights of a perceptron that tells pictures with the pattern from others; all chance is the generator's."""
    numbers = pictures[0].numel()
    net = [
        torch.randn(numbers, WIDTH, generator=generator) * numbers**-0.5,
        torch.zeros(WIDTH),
        torch.randn(WIDTH, 1, generator=generator) * WIDTH**-0.5,
        torch.zeros(1),
    ]
    optimizer = torch.optim.Adam([weight.requires_grad_() for weight in net], lr=RATE)
    wanted = (torch.arange(BATCH) % 2 == 0).float()
    for _ in range(STEPS):
        chosen = pictures[torch.randint(len(pictures), (BATCH,), generator=generator)]
        shown = torch.where(wanted.bool()[:, None, None, None], stamped(chosen, size), chosen)
        loss = binary_cross_entropy_with_logits(_seen(net, shown), wanted)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return [weight.detach() for weight in net]
