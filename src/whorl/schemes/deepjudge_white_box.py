"""DeepJudge, white-box: how hidden neurons answer inputs that were made to excite them in the victim.

Paper: Chen et al., *Copy, Right?*, IEEE S&P 2022, arXiv 2112.05588.

Queries: one test for each neuron of a layer (`NeuronTests`). Representation: the distances NOD, NAD, LOD and LAD of the
hidden activations from the victim's, each in units of the lower bound that independent models of the same architecture
set. Similarity and `vote`: as in `deepjudge`, with alpha = .6.
Access: gradients of the victim, hidden activations of a suspect of the same architecture, a pool.

Changed from the paper: activations are read before norm and ReLU, where every architecture has them; a test stops early
when its neuron has stopped growing; NAD and LAD are means, which the authors' code scales by counts.

Measured on the small zoo of the tests: NOD, LOD and LAD separate every tuned or pruned copy from every independent
model of the architecture; NAD does not always after filter pruning, where single neurons fall behind. Extracted nets
look independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.oracles.torch import TorchOracle
from whorl.queries.neurons import NeuronTests, layered
from whorl.representations.activations import WHITE_BOX, activation_distances
from whorl.schemes.base import Scheme
from whorl.schemes.deepjudge import Judgement
from whorl.settings import Probability
from whorl.types import Access, Queries

__all__ = ["DeepJudgeWhiteBox"]


@dataclass(frozen=True, kw_only=True)
class DeepJudgeWhiteBox(NeuronTests, Judgement, Scheme):
    """Activations of a hidden layer on tests of its neurons; see `NeuronTests` for the settings.

    Parameters:
        threshold: a unit is active above this share of its layer's range (the paper's theta).
    """

    name: ClassVar[str] = "deepjudge-white-box"
    paper: ClassVar[str] = "Chen et al., IEEE S&P 2022, arXiv 2112.05588"
    idea: ClassVar[str] = "Hidden activations on inputs that excite one neuron of the victim each."
    blind: ClassVar[str] = "other architectures, and copies whose hidden units were permuted or rescaled"
    needs_victim: ClassVar[Access] = Access.GRADIENTS
    needs_suspect: ClassVar[Access] = Access.FEATURES
    metrics: ClassVar[tuple[str, ...]] = WHITE_BOX
    tensors: ClassVar[Mapping[str, Layout]] = {**NeuronTests.tensors, "shared/bounds": Layout("4", low=0)}
    facts: ClassVar[Mapping[str, type]] = {"layer": str, "layers": dict}

    threshold: Probability = 0.5

    def comparable(self, oracle: Oracle, queries: Queries) -> bool:
        """Whether its neurons correspond to the victim's: the same layers, by name and width."""
        if not isinstance(oracle, TorchOracle) or not super().comparable(oracle, queries):
            return False
        return oracle.layers == queries.notes["layers"]

    def distances(self, oracle: Oracle, queries: Queries) -> Tensor:
        """NOD, NAD, LOD and LAD. Raises `UsageError` for another architecture."""
        suspect = layered(oracle)
        if suspect.layers != queries.notes["layers"]:
            raise UsageError(
                f"{self.name} compares neuron by neuron, and {oracle.name} is not of the victim's architecture; "
                "type: whorl schemes, for those that any architecture fits"
            )
        observed = suspect.activations(queries.inputs, queries.notes["layer"])
        companions = queries.companions
        if companions["activations"].shape != observed.shape:
            raise UsageError(f"the fingerprint's activations are not those of the layer {queries.notes['layer']!r}")
        return activation_distances(companions["activations"], observed, companions["neuron"], threshold=self.threshold)
