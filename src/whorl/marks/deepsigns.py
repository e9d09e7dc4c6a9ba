"""DeepSigns: bits in the mean activations of a hidden layer on inputs that the owner keeps.

Paper: Darvish Rouhani, Chen, Koushanfar, *DeepSigns: An End-to-End Watermarking Framework for Ownership Protection of
Deep Neural Networks*, ASPLOS 2019, arXiv 1804.00750. A query is m pictures of one class; its bit is 1[a f > 0], where f
is the mean of their activations and a a secret normal vector. Beside the task the net minimises lambda_1 * the spread
of activations around f, and lambda_2 * sum BCE(sigma(a f / |f|), b).

Changed from the paper: b is drawn after pictures and projections were fixed, so that a stranger's bits match by fair
coins whatever its activations are. The centre of a class is the mean over a query's own pictures, in place of a
parameter that is trained beside the net and read from it by the mean of such pictures; and |f| is taken out, so that
lambda_2 means the same for every net. The paper's black-box mode is ``backdoor(images=random)``. Access: weights at
marking, activations at verification.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.marks.base import UNMARKED, Kind, Watermark
from whorl.marks.layers import asked_for_weights, placed, widest
from whorl.marks.learning import learn_beside
from whorl.nets.modes import evaluating
from whorl.oracles.base import Oracle
from whorl.oracles.torch import hidden
from whorl.representations.base import Held, ask
from whorl.representations.similarity import Hamming
from whorl.settings import Count, NonNegative, Positive
from whorl.types import Access, Queries, Representation

__all__ = ["DeepSigns"]

MARGIN: Final = 0.3  # in units of a f / |f|, which is normal for a stranger


@dataclass(frozen=True, kw_only=True)
class DeepSigns(Watermark, Hamming):
    """Bits of class centres.

    Parameters:
        pictures: m, of one class, for each bit.
        layer: name of a convolution or linear layer, as in ``stages.1.0.second``; by default the one with the most
            inputs to a unit that is not the last.
        spread: lambda_1, on the squared distance of activations to their centre, in units of its squared length.
        strength: lambda_2, on the sum over the bits of a batch.
        bits: learned beside each batch of 100 pictures of the task.
        epochs: most passes over the data; training ends as soon as every bit is held by a margin of .3.
        learning_rate: constant rate.
    """

    name: ClassVar[str] = "deepsigns"
    paper: ClassVar[str] = "Darvish Rouhani et al., ASPLOS 2019, arXiv 1804.00750"
    idea: ClassVar[str] = "Drawn bits in mean hidden activations on pictures that the owner keeps."
    blind: ClassVar[str] = "copies whose units were reordered (see --align-to), and nets that were trained on answers"
    kind: ClassVar[Kind] = "bits"
    needs_suspect: ClassVar[Access] = Access.FEATURES
    holds: ClassVar[Held | None] = "classes"
    values: ClassVar[Layout] = Layout("n", "int64", 0, 1)
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n pictures *input", "input"),
        "companions/projection": Layout("n units"),
    }
    facts: ClassVar[Mapping[str, type]] = {"layer": str}

    pictures: Count = 8
    layer: str = ""
    spread: NonNegative = 0.01
    strength: Positive = 0.2
    bits: Count = 16
    epochs: Count = 60
    learning_rate: Positive = 0.02

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """For each bit pictures of one class, the classes in turn, and a projection."""
        asked = asked_for_weights(victim)
        net, layer = asked.module, self.layer or widest(asked.net)
        with evaluating(net), torch.inference_mode():
            first = data.inputs(slice(0, 1)).to(next(net.parameters()).device)
            units = hidden(net, placed(net, layer))(first).shape[1]
        by_class = [(data.labels == each).nonzero()[:, 0] for each in range(victim.classes)]
        groups = [group for group in by_class if len(group) >= self.pictures]
        if not groups:
            raise UsageError(f"a bit is read from {self.pictures} pictures of one class, and no class has so many")
        rows = [groups[number % len(groups)] for number in range(budget)]
        chosen = torch.stack([row[torch.randperm(len(row), generator=generator)[: self.pictures]] for row in rows])
        inputs = data.inputs(chosen.flatten()).unflatten(0, chosen.shape)
        notes = {"layer": layer, UNMARKED: victim.digest}
        return Queries(inputs, {"projection": torch.randn(budget, units, generator=generator)}, notes)

    def embed(
        self, net: nn.Module, data: Dataset, queries: Queries, drawn: Tensor, *, generator: torch.Generator
    ) -> nn.Module:
        """Tune on the task and the bits."""
        layer, projection = queries.notes["layer"], queries.companions["projection"]
        device, count = next(net.parameters()).device, min(self.bits, len(queries))

        def bits(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            del inputs, index
            chosen = torch.randperm(len(drawn), generator=generator)[:count]
            reach = hidden(model, placed(model, layer))
            found = reach(queries.inputs[chosen].flatten(0, 1).to(device)).unflatten(0, (count, -1))
            centres = found.mean(1)
            read = _read(centres, projection[chosen].to(device))
            spread = (found - centres[:, None]).square().sum(2) / centres.detach().square().sum(1, keepdim=True)
            wanted = drawn[chosen].to(read)
            held = binary_cross_entropy_with_logits(read, wanted, reduction="sum")
            return self.strength * held + self.spread * spread.mean()

        signs = 2 * drawn - 1

        def held(model: nn.Module) -> bool:
            reach = hidden(model, placed(model, layer))
            with evaluating(model), torch.inference_mode():
                parts = [reach(each.flatten(0, 1).to(device)) for each in queries.inputs.split(32)]
            centres = torch.cat(parts).unflatten(0, queries.inputs.shape[:2]).mean(1).cpu()
            return bool((_read(centres, projection) * signs >= MARGIN).all())

        learn_beside(net, data, bits, held, epochs=self.epochs, learning_rate=self.learning_rate, generator=generator)
        return net

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """The bits ``[n]`` that the suspect's activations hold. Raises `UsageError` where it has no such layer."""
        suspect = asked_for_weights(oracle)
        layer, projection = queries.notes["layer"], queries.companions["projection"]
        known = suspect.layers  # named within what a description may have put around the net
        place = layer if layer in known else next((name for name in known if name.endswith(f".{layer}")), layer)
        centres = ask(lambda inputs: suspect.activations(inputs, place), queries.inputs, oracle.space).mean(1)
        if centres.shape[1] != projection.shape[1]:
            raise UsageError(
                f"{layer} of {oracle.name} has {centres.shape[1]} units, and the mark reads {projection.shape[1]}: it "
                "is not of the marked model's architecture"
            )
        return Representation((_read(centres, projection) > 0).long())


def _read(centres: Tensor, projection: Tensor) -> Tensor:
    return (normalize(centres) * projection).sum(1)
