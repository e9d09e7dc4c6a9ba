"""Bits in the weights of one layer, read by a secret projection.

Paper: Uchida, Nagai, Sakazawa, Satoh, *Embedding Watermarks into Deep Neural Networks*, ICMR 2017, arXiv 1701.04082.

w is the mean of a layer's weights over its output units, X a secret normal matrix of one row a bit; beside the task the
net minimises lambda * sum BCE(sigma(X w), b). A suspect's bits are 1[X w >= 0].

Changed from the authors' code: b is drawn after X was fixed. Theirs is all ones, and then siblings of one
initialisation match together: there is no null. Whatever w is, drawn bits match by fair coins. Access: weights at
marking and at verification. The mean makes the bits blind to the order of the layer's own units; that of its inputs, or
their scale, moves all of them (Yan et al., arXiv 2205.00199).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.marks.base import UNMARKED, Kind, Watermark
from whorl.marks.layers import asked_for_weights, linear_layers, placed, widest
from whorl.marks.learning import learn_beside
from whorl.oracles.base import Oracle
from whorl.representations.base import Held
from whorl.representations.similarity import Hamming
from whorl.settings import Count, Positive
from whorl.types import Access, Queries, Representation

__all__ = ["Uchida", "mean_weights"]

MARGIN: Final = 1.0  # in units of X w, where a bit is read with odds of e to 1


@dataclass(frozen=True, kw_only=True)
class Uchida(Watermark, Hamming):
    """Bits of a mean kernel.

    Parameters:
        layer: name of the layer, as in ``stages.1.0.first``; by default the one with the most inputs to a unit that is
            not the last.
        strength: lambda of the paper, on the sum over bits.
        epochs: most passes over the data; training ends as soon as every bit is held by a margin of 1.
        learning_rate: constant rate.
    """

    name: ClassVar[str] = "uchida"
    paper: ClassVar[str] = "Uchida et al., ICMR 2017, arXiv 1701.04082"
    idea: ClassVar[str] = "Drawn bits in a secret projection of one layer's weights."
    blind: ClassVar[str] = (
        "copies whose units were reordered or rescaled (see --align-to), and nets that were trained on answers"
    )
    kind: ClassVar[Kind] = "bits"
    needs_suspect: ClassVar[Access] = Access.WEIGHTS
    holds: ClassVar[Held | None] = "classes"
    values: ClassVar[Layout] = Layout("n", "int64", 0, 1)
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n 0 *input", "input"),
        "companions/projection": Layout("n inputs_of_a_unit"),
    }
    facts: ClassVar[Mapping[str, type]] = {"layer": str}

    layer: str = ""
    strength: Positive = 0.5
    epochs: Count = 60
    learning_rate: Positive = 0.02

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """A row of the projection for each bit; no input is asked."""
        del data
        net = asked_for_weights(victim).net
        layer = self.layer or widest(net)
        fan_in = len(mean_weights(net, layer))
        if budget > fan_in:
            raise UsageError(
                f"{layer} has {fan_in} weights to a unit, and {budget} bits don't fit; ask for {fan_in} at most, or "
                "name a layer of more inputs: --kind 'uchida(layer=...)'"
            )
        inputs = torch.zeros(budget, 0, *victim.space.shape, dtype=victim.space.dtype)
        projection = torch.randn(budget, fan_in, generator=generator)
        return Queries(inputs, {"projection": projection}, {"layer": layer, UNMARKED: victim.digest})

    def embed(
        self, net: nn.Module, data: Dataset, queries: Queries, drawn: Tensor, *, generator: torch.Generator
    ) -> nn.Module:
        """Tune on the task and the bits."""
        layer, projection = queries.notes["layer"], queries.companions["projection"]

        def bits(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            del inputs, index
            read = projection.to(next(model.parameters()).device) @ mean_weights(model, layer)
            return self.strength * binary_cross_entropy_with_logits(read, drawn.to(read), reduction="sum")

        signs = 2 * drawn - 1

        def held(model: nn.Module) -> bool:
            read = projection @ mean_weights(model, layer).detach().cpu()
            return bool((read * signs >= MARGIN).all())

        learn_beside(net, data, bits, held, epochs=self.epochs, learning_rate=self.learning_rate, generator=generator)
        return net

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """The bits ``[n]`` that the suspect's weights hold. Raises `UsageError` where it has no such layer."""
        weights = mean_weights(asked_for_weights(oracle).net, queries.notes["layer"]).detach().cpu()
        projection = queries.companions["projection"]
        if projection.shape[1] != len(weights):
            raise UsageError(
                f"{queries.notes['layer']} of {oracle.name} has {len(weights)} weights to a unit, and the mark reads "
                f"{projection.shape[1]}: it is not of the marked model's architecture"
            )
        return Representation((projection.double() @ weights.double() >= 0).long())


def mean_weights(net: nn.Module, layer: str) -> Tensor:
    """The mean ``[inputs]`` of a layer's weights over its output units. Raises `UsageError` where there is none."""
    module = dict(net.named_modules()).get(placed(net, layer))
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim < 2:
        told = ", ".join(name for name, _ in linear_layers(net))
        raise UsageError(f"there is no layer {layer!r} of a matrix or kernel here; there are: {told[:600]}")
    return weight.flatten(1).mean(0)
