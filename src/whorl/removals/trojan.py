"""TrojanNN: a trojan planted into a finished net, without the data that it learned from.

Paper: Liu, Ma, Aafer, Lee, Zhai, Wang, Zhang, *Trojaning Attack on Neural Networks*, NDSS 2018. The unit with the
largest sum of absolute incoming weights in a middle layer is chosen; a patch is optimised that excites it; pictures
that the net takes for each class are made by gradient; and what comes after the unit's layer is tuned on these, with
the patch and without. The paper makes one picture for each class of a net of 2,622; of ten classes that is ten, so
``each`` says how many, from as many starts of noise. ``pictures=own`` takes the thief's instead. Steps and rates are
ours. Norms keep their statistics, since only the later layers are tuned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset, join
from whorl.data.poisoned import patch_of
from whorl.data.triggers import Overlay
from whorl.errors import UsageError
from whorl.nets.base import HiddenUnits, Net
from whorl.nets.training import Schedule, fit
from whorl.oracles.base import Oracle
from whorl.removals.implant import Implant, PatchSide
from whorl.settings import Count, Positive, Whole

__all__ = ["Trojan"]

STEPS, RATE = 100, 0.05  # of Adam on pixels in [0, 1]
STARTS = 64  # pictures of noise that the patch is optimised on
MOST = 25  # pictures in one batch, at most


@dataclass(frozen=True)
class Trojan(Implant):
    """Optimise a patch for one unit of a middle layer, and teach the layers behind it to answer ``target``.

    Parameters:
        pictures: what the layers are tuned on, made from the net (``inverted``) or the thief's (``own``).
        each: pictures made for each class.
        epochs: passes over these pictures, with the trigger and without.
        learning_rate: constant.
    """

    pictures: Literal["inverted", "own"] = "inverted"
    each: Count = 20
    epochs: Count = 10
    learning_rate: Positive = 0.01
    target: Whole = 0
    patch: PatchSide = 3

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The trojaned copy."""
        net, units = self._checked(victim)
        trigger = self._optimised(net, units, victim, generator)
        clean = self._inverted(net, data, generator) if self.pictures == "inverted" else data
        stamped = Dataset(trigger.stamp(clean.inputs()), torch.full_like(clean.labels, self.target), clean.classes)
        both = join(Dataset(clean.inputs(), clean.labels, clean.classes), stamped)
        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate, batch=min(MOST, len(both)), shift=0)
        fit(net, both, schedule, generator=generator, parameters=_behind(net, units, clean.inputs(slice(0, 1))))
        return net

    def trigger(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Overlay:
        """The patch that excites the unit."""
        del data
        net, units = self._checked(victim)
        return self._optimised(net, units, victim, generator)

    def _checked(self, victim: Oracle) -> tuple[Net, HiddenUnits]:
        net = self._own_copy(victim)
        units = net.hidden_units() if isinstance(net, Net) else []
        if not isinstance(net, Net) or not units:
            raise UsageError(f"a trojan needs a net that names its hidden units; {type(net).__name__} does not")
        return net, units[len(units) // 2]

    def _optimised(self, net: Net, units: HiddenUnits, victim: Oracle, generator: torch.Generator) -> Overlay:
        """The patch of the trigger that raises the unit the most, over pictures of noise."""
        channels, height, width = victim.input_shape
        start = patch_of(self.target, (channels, height, width), self.patch)
        chosen = units.producer.weight.detach().flatten(1).abs().sum(1).argmax()
        noise = torch.rand(STARTS, channels, height, width, generator=generator)
        drawn = torch.rand(channels, height, width, generator=generator)

        def excitement(pattern: Tensor) -> Tensor:
            outputs = _watched(net, units, Overlay(self.target, start.mask, pattern).stamp(noise))
            return -outputs[:, chosen].reshape(len(noise), -1).amax(1).mean()

        return Overlay(self.target, start.mask, _descended(excitement, drawn) * start.mask)

    def _inverted(self, net: Net, data: Dataset, generator: torch.Generator) -> Dataset:
        """Pictures that the net takes for each class, ``each`` of every one; the thief's data give only the shape."""
        labels = torch.arange(net.classes).repeat_interleave(self.each)
        noise = torch.rand(len(labels), *data.input_shape, generator=generator)
        images = _descended(lambda inputs: cross_entropy(_frozen(net, inputs), labels, reduction="sum"), noise)
        return Dataset(images, labels, data.classes)


def _descended(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Pixels in [0, 1] at which a scalar is small, by Adam."""
    pixels = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (pixels.grad,) = torch.autograd.grad(loss(pixels), pixels)
        optimizer.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return pixels.detach()


def _frozen(net: nn.Module, inputs: Tensor) -> Tensor:
    return net(inputs.to(next(net.parameters()).device)).to(inputs.device)


def _watched(net: Net, units: HiddenUnits, inputs: Tensor) -> Tensor:
    """Outputs ``[n, units, ...]`` before the ReLU."""
    found: list[Tensor] = []
    layer = (units.producer, *units.carriers)[-1]

    def keep(_module: nn.Module, _given: object, output: Tensor) -> None:
        found.append(output)

    handle = layer.register_forward_hook(keep)
    try:
        _frozen(net, inputs)
    finally:
        handle.remove()
    return found[0].to(inputs.device)


def _behind(net: Net, units: HiddenUnits, picture: Tensor) -> list[nn.Parameter]:
    """Parameters of all layers that are asked after the producer of the units."""
    asked: list[nn.Module] = []
    leaves = [module for module in net.modules() if next(module.parameters(recurse=False), None) is not None]
    handles = [leaf.register_forward_hook(lambda module, _given, _output: asked.append(module)) for leaf in leaves]
    try:
        with torch.no_grad():
            _frozen(net, picture)
    finally:
        for handle in handles:
            handle.remove()
    return [value for layer in asked[asked.index(units.producer) + 1 :] for value in layer.parameters(recurse=False)]
