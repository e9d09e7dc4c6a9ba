"""Hiding a trojan: planted into weights, or directions of weights, that clean pictures do not use.

Prior art: handcrafted backdoors and subnet replacement for few weights; data-dependent symmetry (Zhao et al., ICLR
2023, arXiv 2210.17216) for directions. The two forms here are no published attack:

- ``freeze``: all weights are frozen but the share with the lowest diagonal of the Fisher information on the thief's
  pictures, the mean of (d log p(label) / d weight)^2.
- ``null_space``: every layer moves only outside of what its inputs on the thief's pictures span (`whorl.nets.spans`),
  so that the net answers these as before, up to the share 1 - ``energy`` that was dropped. Norms stay as they are.

Both minimise cross-entropy of stamped pictures to the target + ``fidelity`` KL(before, after) on clean ones + ``decay``
times the squared change. No labels of the thief are used but those of the Fisher information.

On a ResNet-8 of width 8, 5 % of the weights hide little: accuracy falls by a third (`docs/trojans.md`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from whorl.data.base import Dataset
from whorl.data.poisoned import patch_of
from whorl.data.triggers import Overlay
from whorl.errors import UsageError
from whorl.nets.spans import Layer, joined, null_spaces, put
from whorl.nets.training import Schedule, fit, predict
from whorl.oracles.base import Oracle
from whorl.removals.implant import Implant, PatchSide
from whorl.settings import Count, NonNegative, Positive, ProperShare, Share, Whole

__all__ = ["Hide"]

BATCH = 100  # pictures whose gradients are kept side by side


@dataclass(frozen=True)
class Hide(Implant):
    """Plant a chequered patch into what clean pictures do not use.

    Parameters:
        method: as above.
        share: of all weights that may move (``freeze``), in (0, 1).
        energy: share of the second moment of a layer's inputs that is kept (``null_space``), in (0, 1].
        fidelity, decay: weights of the second and third term.
    """

    method: Literal["freeze", "null_space"] = "freeze"
    share: ProperShare = 0.05
    energy: Share = 0.9999
    fidelity: NonNegative = 1.0
    decay: NonNegative = 0.0
    epochs: Count = 10
    learning_rate: Positive = 0.05
    target: Whole = 0
    patch: PatchSide = 3

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The copy with a hidden trojan."""
        net, inputs = self._own_copy(victim), data.inputs()
        trigger = self.trigger(victim, data, generator=generator)
        before, weights = predict(net, inputs), [value.detach().clone() for value in net.parameters()]
        confine = self._to_unused(net, data) if self.method == "freeze" else self._to_null_space(net, data)

        def loss(model: nn.Module, pictures: Tensor, index: Tensor) -> Tensor:
            answers = model(torch.cat([pictures, trigger.stamp(pictures)]))
            clean, stamped = answers.split(len(pictures))
            was = log_softmax(before.to(clean)[index.to(before.device)].to(clean.device), 1)
            kept = kl_div(log_softmax(clean, 1), was, reduction="batchmean", log_target=True)
            obeyed = cross_entropy(stamped, torch.full_like(index, self.target))
            change = sum((now - then).square().sum() for now, then in zip(model.parameters(), weights, strict=True))
            return obeyed + self.fidelity * kept + self.decay * change

        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate, weight_decay=0, shift=0)
        moving = list(net.parameters())
        fit(net, data, schedule, generator=generator, loss=loss, parameters=moving, after_step=confine)
        return net

    def trigger(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> Overlay:
        """The patch."""
        del data, generator
        return patch_of(self.target, victim.input_shape, self.patch)

    def _to_unused(self, net: nn.Module, data: Dataset) -> Callable[[], None]:
        """What puts all weights back but the least used."""
        used = _fisher(net, data)
        least = torch.cat([value.flatten() for value in used.values()])
        bound = least.kthvalue(max(1, round(self.share * len(least)))).values
        frozen = [(value, value.detach().clone(), used[name] > bound) for name, value in net.named_parameters()]

        @torch.no_grad()
        def confine() -> None:
            for value, then, fixed in frozen:
                value.copy_(torch.where(fixed, then, value))

        return confine

    def _to_null_space(self, net: nn.Module, data: Dataset) -> Callable[[], None]:
        """What projects the change of each layer onto what its inputs leave, and puts the norms back."""
        spare = {
            layer: (joined(layer), [basis @ basis.mT for basis in bases])
            for layer, bases in null_spaces(net, data.inputs(), self.energy).items()
        }
        if not any(onto.any() for _, each in spare.values() for onto in each):
            raise UsageError(
                f"these {len(data)} pictures span every direction of every layer at energy={self.energy}; "
                "give less energy or fewer pictures"
            )
        inside = {id(value) for layer in spare for value in layer.parameters()}
        others = [(value, value.detach().clone()) for value in net.parameters() if id(value) not in inside]

        @torch.no_grad()
        def confine() -> None:
            for layer, (then, onto) in spare.items():
                put(layer, then + _projected(joined(layer) - then, onto, layer))
            for value, was in others:
                value.copy_(was)

        return confine


def _projected(change: Tensor, onto: list[Tensor], layer: Layer) -> Tensor:
    """The change ``[outputs, d]`` within the directions that are left, group by group."""
    parts = change.double().chunk(len(onto))
    return torch.cat([part @ each for part, each in zip(parts, onto, strict=True)]).to(layer.weight.dtype)


def _fisher(net: nn.Module, data: Dataset) -> dict[str, Tensor]:
    """Mean squared derivative of log p(label) by each weight, over pictures; the net is in evaluation mode."""
    weights = {name: value.detach() for name, value in net.named_parameters()}
    device = next(iter(weights.values())).device

    def surprise(values: dict[str, Tensor], picture: Tensor, label: Tensor) -> Tensor:
        return cross_entropy(functional_call(net, values, (picture[None],)), label[None])

    each = vmap(grad(surprise), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(value) for name, value in weights.items()}
    for index in torch.arange(len(data)).split(BATCH):
        found = each(weights, data.inputs(index).to(device), data.labels[index].to(device))
        for name, value in found.items():
            total[name] += value.square().sum(0)
    return {name: value / len(data) for name, value in total.items()}
