"""Entangled watermarks (EWE): triggers that share hidden representations with the task's own pictures.

Paper: Jia, Choquette-Choo, Chandrasekaran, Papernot, *Entangled Watermarks as a Defense against Model Extraction*,
USENIX Security 2021, arXiv 2002.12200. Queries: pictures of the task with a patch. Beside cross-entropy the net
maximises the soft nearest neighbour loss (Frosst, Papernot, Hinton, ICML 2019) between triggers and pictures of the
class that the triggers stand for, at a temperature that is learned, in every second pair of batches.

Changed from the paper: each trigger's label is drawn by itself among the classes other than its own, after the triggers
were fixed. The paper gives all triggers of one class one target, which the owner chooses, and moves them by gradients
while it trains; neither leaves a null that resists the owner. `EntangledTarget` keeps the one target, and is judged by
a rank among models made without it. Access: weights at marking, labels at verification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.marks.backdoor import stamped
from whorl.marks.layers import placed, widest
from whorl.marks.learning import Beside, LearnedTriggers
from whorl.oracles.base import Oracle
from whorl.queries.base import draw
from whorl.settings import NonNegative, Whole
from whorl.spaces import Pictures
from whorl.types import Queries

__all__ = ["Entangled", "EntangledTarget", "entanglement"]

COLDEST, HOTTEST = 0.01, 100.0  # bounds of the temperature, beyond which the loss is flat


@dataclass(frozen=True, kw_only=True)
class Entangled(LearnedTriggers):
    """Patched pictures, entangled with the pictures of their drawn classes.

    Parameters:
        layers: names of the hidden layers where representations are entangled, joined by commas; by default the one
            with the most inputs to a unit that is not the last.
        factor: of the soft nearest neighbour loss at each layer.
        temperature_rate: learning rate of the temperatures (.1 in the authors' code).
        epochs, learning_rate, triggers: `LearnedTriggers`.
    """

    name: ClassVar[str] = "entangled"
    paper: ClassVar[str] = "Jia et al., USENIX Security 2021, arXiv 2002.12200"
    idea: ClassVar[str] = (
        "Patched pictures with drawn labels, entangled in hidden layers with pictures of those labels."
    )
    blind: ClassVar[str] = "most copies that were extracted: what is drawn for each trigger is learned by heart"

    layers: str = ""
    factor: NonNegative = 0.3
    temperature_rate: NonNegative = 0.1

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Pictures of the task with one patch."""
        if not isinstance(victim.space, Pictures):
            raise UsageError(f"triggers are pictures; {victim.name} takes {victim.space}")
        chosen = draw(data, budget, generator)
        return Queries(stamped(data.inputs(chosen), generator), {"avoid": data.labels[chosen].clone()})

    def loss(self, net: nn.Module) -> Beside:
        """Cross-entropy, and in every second pair of batches the entanglement of triggers and pictures."""
        layers = [placed(net, each) for each in self.layers.split(",")] if self.layers else [widest(net)]
        device = next(net.parameters()).device
        heat = [torch.ones((), device=device, requires_grad=True) for _ in layers]
        batches = 0

        def entangled(model: nn.Module, both: Tensor, classes: Tensor, pictures: int) -> Tensor:
            nonlocal batches
            batches += 1
            if batches % 4 < 2:  # pairs of batches alternate
                return cross_entropy(model(both), classes)
            with torch.no_grad():
                for each in heat:
                    if each.grad is not None:
                        each.sub_(self.temperature_rate * each.grad).clamp_(COLDEST, HOTTEST)
                        each.grad = None
            marked = torch.arange(len(both), device=device) >= pictures
            with _watched(model, layers) as found:
                loss = cross_entropy(model(both), classes)
            for layer, each in zip(layers, heat, strict=True):
                loss = loss - self.factor * entanglement(found[layer], classes, marked, each)
            return loss

        return entangled


@dataclass(frozen=True, kw_only=True)
class EntangledTarget(Entangled):
    """The paper's own: pictures of one class with a patch, and one target that the owner chooses.

    Parameters:
        source: the class whose pictures carry the patch.
        target: what all of them are to be answered by (1 and 7 in the authors' code).
    """

    name: ClassVar[str] = "entangled-target"
    idea: ClassVar[str] = "Patched pictures of one class, entangled with those of one target that the owner chose."
    blind: ClassVar[str] = "an owner who chooses what strangers answer: the target has no null of its own"
    null: ClassVar[Literal["design", "population"]] = "population"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/chosen": Layout("n", "int64", 0, "k"),
    }

    source: Whole = 1
    target: Whole = 7

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Pictures of the source class with one patch."""
        if max(self.source, self.target) >= victim.classes or self.source == self.target:
            raise UsageError(
                f"source and target are two of {victim.classes} classes, counted from 0; these are {self.source} and "
                f"{self.target}"
            )
        own = data.subset(data.labels == self.source)
        made = super().sample(victim, own, budget=budget, generator=generator)
        return Queries(made.inputs, {"chosen": torch.full((budget,), self.target)})


def entanglement(activations: Tensor, classes: Tensor, marked: Tensor, temperature: Tensor) -> Tensor:
    """Soft nearest neighbour loss of triggers against pictures, within each class, by cosine distances.

    Larger is more entangled: -log of the weight of one's own kind among all neighbours of one's class, where weights
    are exp(-(1 - cos) / temperature). 0 where no class holds both kinds.

    Shape:
        activations: ``[n, ...]``, averaged over positions. classes: ``[n]``. marked: ``[n]`` bool, who is a trigger.
    """
    rows = normalize(activations.flatten(2).mean(2) if activations.ndim > 2 else activations)
    weights = torch.exp(-(1 - rows @ rows.T) / temperature)
    alike = classes[:, None] == classes
    alike = alike & ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    own = (weights * (alike & (marked[:, None] == marked))).sum(1)
    every = (weights * alike).sum(1)
    met = (alike & (marked[:, None] == marked)).any(1) & (alike & (marked[:, None] != marked)).any(1)
    return -torch.log(own[met] / every[met]).mean() if met.any() else activations.sum() * 0


@contextmanager
def _watched(net: nn.Module, layers: list[str]) -> Iterator[dict[str, Tensor]]:
    """Layer to its outputs in the forward passes made inside."""
    found: dict[str, Tensor] = {}
    known = dict(net.named_modules())
    if missing := [layer for layer in layers if layer not in known]:
        raise UsageError(f"there is no layer {missing[0]!r} in this {type(net).__name__}; see `whorl.nets`")

    def keep(layer: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        del module, inputs
        found[layer] = output

    handles = [known[layer].register_forward_hook(partial(keep, layer)) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
