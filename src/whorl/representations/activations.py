"""What happens inside: DeepJudge's four white-box distances between the hidden activations of two nets.

Paper: Chen et al., *Copy, Right?*, IEEE S&P 2022, arXiv 2112.05588, metrics NOD, NAD, LOD and LAD.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

__all__ = ["WHITE_BOX", "activation_distances"]

WHITE_BOX: Final = ("NOD", "NAD", "LOD", "LAD")


def activation_distances(owner: Tensor, suspect: Tensor, neuron: Tensor, *, threshold: float = 0.5) -> Tensor:
    """Distances NOD, NAD, LOD, LAD as ``[4]``; 0 for equal activations.

    Neuron output and activation distance look at the neuron that each test was made for, layer output and activation
    distance at all units of the layer. A unit is active when it lies above ``threshold`` after the layer's outputs on
    that test have been scaled to [0, 1]. NAD and LAD are shares in [0, 1]; NOD and LOD have the unit of the outputs.

    Shape:
        owner, suspect: ``[n, units]``; neuron: ``[n]`` int64.
    """
    chosen = neuron[:, None]
    apart = owner - suspect
    flips = (_active(owner, threshold) != _active(suspect, threshold)).float()
    return torch.stack(
        [apart.gather(1, chosen).abs().mean(), flips.gather(1, chosen).mean(), apart.norm(dim=1).mean(), flips.mean()]
    )


def _active(outputs: Tensor, threshold: float) -> Tensor:
    low, high = outputs.amin(1, keepdim=True), outputs.amax(1, keepdim=True)
    return outputs - low > threshold * (high - low)
