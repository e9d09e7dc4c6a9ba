"""A net cut before its linear head, for statistics that look at what the head reads.

A statistic that masks features or moves weights works on a copy: the net that was given stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from whorl.errors import OracleError, UsageError
from whorl.oracles.torch import TorchOracle

__all__ = ["NORMS", "Cut", "head_of"]

BATCH: Final = 256  # inputs in a pass without gradients: a bound on memory
NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)


def head_of(module: nn.Module, classes: int, *, name: str, asker: str) -> nn.Linear:
    """The last layer of ``module``: what its outermost part calls its head, or its last linear layer.

    Parameters:
        name: of the net, and ``asker`` of the statistic, for errors.

    Raises:
        UsageError: it is no linear layer with a row for each class.
    """
    inside = [each for each in module.modules() if isinstance(each, nn.Linear)]
    named = [getattr(each, "head", None) for each in module.modules()]
    head = next((each for each in [*named, *inside[-1:]] if isinstance(each, nn.Linear)), None)
    if head is None or len(head.weight) != classes:
        raise UsageError(
            f"{asker} reads a linear head of {classes} rows, and {name} has none; take neural_cleanse or max_margin"
        )
    return head


class Cut:
    """A frozen copy of a net, in two: inputs to what the head reads, and that to logits. Every input is a query.

    Raises:
        UsageError: the net has no linear head.
    """

    def __init__(self, net: TorchOracle, asker: str) -> None:
        self._net, self._asker = net, asker
        self.module = copy.deepcopy(net.module).eval().requires_grad_(False)
        self.head = head_of(self.module, net.classes, name=net.name, asker=asker)
        self._read: list[Tensor] = []
        self.head.register_forward_pre_hook(lambda _, given: self._read.append(given[0]))

    def features(self, inputs: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """What the head reads, ``[n, d]``, with ``weights`` by name in place of the net's own; gradients pass."""
        self._net.queries_spent += len(inputs)
        self._read.clear()
        answers = functional_call(self.module, dict(weights or {}), (inputs.to(self._net.device),))
        if not all(bool(each.isfinite().all()) for each in (answers.detach(), *self._read)):
            raise OracleError(f"{self._net.name} gave an answer or a feature that is NaN or infinite")
        if len(self._read) != 1 or self._read[0].ndim != 2 or not _alike(answers, self.logits(self._read[0])):
            raise UsageError(
                f"{self._asker} reads the features of a linear head whose outputs are the logits, and {self._net.name} "
                "is not made so; take neural_cleanse or max_margin"
            )
        return self._read.pop()

    @torch.no_grad()
    def seen(self, inputs: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """The same without gradients, in bounded batches."""
        return torch.cat([self.features(chunk, weights) for chunk in inputs.split(BATCH)])

    def logits(self, features: Tensor) -> Tensor:
        """What the head says of features ``[n, d]``, which costs no query."""
        return nn.functional.linear(features, self.head.weight, self.head.bias)


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    return bool((one - other).abs().max() <= 1e-4 * one.abs().max().clamp_min(1))
