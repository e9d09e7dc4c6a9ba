"""DeepJudge's white-box tests: one input for each neuron, on which that neuron is more active than on any picture.

Paper: Chen et al., *Copy, Right?*, IEEE S&P 2022, arXiv 2112.05588, algorithm of the white-box test generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.errors import AccessRefused, UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.oracles.torch import TorchOracle
from whorl.queries.base import draw
from whorl.queries.descent import at_once, descend
from whorl.settings import Count, Positive, Whole
from whorl.types import Queries

__all__ = ["NeuronTests", "layered"]


@dataclass(frozen=True, kw_only=True)
class NeuronTests:
    """How the tests are made; all neurons are optimised in one batch.

    Parameters:
        layer: which convolution or linear layer, counted from 1 towards the output.
        multiple: the paper's m: a test is done once its neuron exceeds m times its maximum over the pictures.
        learning_rate: Adam's, in units of [0, 1] pixels.
        iterations: most Adam steps.
        patience: a test whose neuron has not grown for so many steps stops too; 0 never.
    """

    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/neuron": Layout("n", "int64", 0, "units"),
        "companions/activations": Layout("n units"),
        "companions/passes": Layout("n", "int64", 0),
    }

    layer: Count = 3
    multiple: Positive = 3.0
    learning_rate: Positive = 0.01
    iterations: Count = 1000
    patience: Whole = 50

    def tests(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Tests with the ``neuron`` of each, all of the victim's ``activations`` there, and its layers in the notes.

        The neurons come in random order; a budget beyond their number tests some again from another picture.
        """
        oracle = layered(victim)
        layers = oracle.layers
        if not 1 <= self.layer < len(layers):
            raise UsageError(f"{victim.name} has {len(layers) - 1} hidden layers; layer {self.layer} is not among them")
        name = list(layers)[self.layer - 1]
        order = torch.randperm(layers[name], generator=generator)
        neuron = order.repeat(-(-budget // len(order)))[:budget]
        images = data.inputs()
        seeds = images[draw(data, min(budget, len(data)), generator)]
        seeds = seeds.repeat(-(-budget // len(seeds)), 1, 1, 1)[:budget]
        highest = oracle.activations(images, name).amax(0)[neuron].to(oracle.device)
        # Before a ReLU a maximum may be negative; m times it would be less.
        wanted = highest + (self.multiple - 1) * highest.abs()
        hidden = oracle.differentiable_activations(name)
        units = neuron.to(oracle.device)

        def shortfall(points: Tensor, rows: Tensor) -> Tensor:
            reached = hidden(points).gather(1, units[rows, None]).squeeze(1)
            return (wanted[rows] - reached).relu()

        found = descend(
            seeds.to(oracle.device),
            shortfall,
            learning_rate=self.learning_rate,
            iterations=self.iterations,
            patience=self.patience,
            most=at_once(hidden, seeds),
        )
        points = found.points.cpu()
        companions = {"neuron": neuron, "activations": oracle.activations(points, name), "passes": found.passes.cpu()}
        notes = {"layer": name, "layers": layers, "reached": float((found.losses == 0).float().mean())}
        return Queries(points, companions, notes)


def layered(oracle: Oracle) -> TorchOracle:
    """The oracle as one that shows its hidden layers. Raises `AccessRefused` where it is none."""
    if not isinstance(oracle, TorchOracle):
        raise AccessRefused(f"hidden activations need a PyTorch module; {oracle.name} is none")
    return oracle
