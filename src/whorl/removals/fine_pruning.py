"""Fine-pruning: the channels that the thief's pictures excite least are pruned, then the copy is tuned.

Paper: Liu, Dolan-Gavitt, Garg, *Fine-Pruning*, RAID 2018. Channels of the last convolution go in ascending order of
their mean activation on clean pictures, until accuracy has fallen by ``tolerance`` or ``share`` of them are gone. Users
differ: BackdoorBench prunes by steps of 1 % at a tolerance of 10 %; the watermarking SoK (Lukas et al., IEEE S&P 2022)
takes a share of 96 % at once; SAC (Guan et al., NeurIPS 2022) goes up to 80 %. Where the last convolution writes
into a residual stream, which many layers read, the last one that does not is pruned instead; a net without convolutions
loses neurons of its last hidden layer. Channels are zeroed, not cut out, and stay zero while the rest is tuned.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn.functional import relu

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.base import HiddenUnits, Net
from whorl.nets.ensemble import Ensemble
from whorl.nets.training import Schedule, determination, fit, predict
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import Positive, Whole

__all__ = ["FinePrune"]


@dataclass(frozen=True)
class FinePrune(Removal):
    """Prune up to ``share`` of the last hidden channels, the least active first, for a loss within ``tolerance``.

    ``step`` is the share that goes at once, at least one channel, and ``tolerance`` the loss of accuracy on the
    thief's pictures (of the coefficient of determination where the model predicts numbers).
    """

    family: ClassVar[str] = "prune filters"

    share: Annotated[float, Ge(0), Lt(1)] = 0.8
    tolerance: Annotated[float, Ge(0), Lt(1)] = 0.1
    step: Annotated[float, Ge(0), Lt(1)] = 0.01
    epochs: Whole = 5
    learning_rate: Positive = 0.01

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The pruned and tuned copy."""
        net = self._checked(victim)
        orders = [_activity(net, units, data.inputs()).argsort(stable=True) for units in _last_hidden(net)]
        gone = self._dispensable(net, orders, data)

        def enforce() -> None:
            _silence(net, gone)

        enforce()
        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate)
        fit(net, data, schedule, generator=generator, after_step=enforce)
        return net

    def _checked(self, victim: Oracle) -> Net:
        if victim.task == "generation":
            raise UsageError(f"fine-pruning watches what pictures excite; {victim.name} makes them, so prune_filters")
        net = stolen_copy(victim)
        if not isinstance(net, Net) or not net.hidden_units():
            raise UsageError(f"fine-pruning needs a net that names its hidden units; {type(net).__name__} does not")
        return net

    def _dispensable(self, net: Net, orders: list[Tensor], data: Dataset) -> list[Tensor]:
        """The channels of each layer that can go, the least active first."""
        least = _skill(net, data) - self.tolerance
        size = len(orders[0])
        limit, step = round(self.share * size), max(1, round(self.step * size))
        gone = [order[:0] for order in orders]
        for count in [*range(step, limit, step), limit]:
            more = [order[:count] for order in orders]
            trial = copy.deepcopy(net)
            _silence(trial, more)
            if _skill(trial, data) < least:
                break
            gone = more
        return gone


def _last_hidden(net: Net) -> Iterator[HiddenUnits]:
    """Per member of an ensemble, the units of the last convolution (else linear layer) that one layer alone reads."""
    for member in net.members if isinstance(net, Ensemble) else [net]:
        assert isinstance(member, Net)
        units = member.hidden_units()
        yield ([each for each in units if isinstance(each.producer, nn.Conv2d)] or units)[-1]


def _activity(net: Net, units: HiddenUnits, inputs: Tensor) -> Tensor:
    """Mean activation ``[units]`` behind the ReLU, over pictures and positions."""
    total = torch.zeros(units.count, dtype=torch.float64)

    def add(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        total.add_(relu(output).flatten(2).mean(2).sum(0).cpu() if output.ndim > 2 else relu(output).sum(0).cpu())

    handle = (units.producer, *units.carriers)[-1].register_forward_hook(add)
    try:
        predict(net, inputs)
    finally:
        handle.remove()
    return total / len(inputs)


@torch.no_grad()
def _silence(net: Net, gone: list[Tensor]) -> None:
    """Zero all that makes the given channels, offsets of norms included."""
    for units, dead in zip(_last_hidden(net), gone, strict=True):
        units.producer.weight[dead] = 0
        for layer in (units.producer, *units.carriers):
            for vector in layer.parameters():
                if vector.ndim == 1:
                    vector[dead] = 0


def _skill(net: Net, data: Dataset) -> float:
    """Accuracy, or the coefficient of determination of predicted numbers."""
    outputs = predict(net, data.inputs())
    if data.labels.is_floating_point():
        return determination(outputs, data.labels)
    return float((outputs.argmax(1) == data.labels).float().mean())
