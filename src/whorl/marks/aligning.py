"""A suspect with its units in the order and size of the unmarked model, so that bits in its weights can be read.

Whoever reorders the units of a copy, or puts factors on them, moves what a projection reads. The order is found again
by matching weights with the model that the copies were made of (Ainsworth et al., *Git Re-Basin*, ICLR 2023, algorithm
1), and the weights of each unit are made as long as in that model, which undoes positive factors. That model was fixed
before bits or rows were drawn. Neither step sees a marked copy or a row, so a suspect that was made without them is
aligned without regard to the draw, and p-values stay exact.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from whorl.errors import UsageError
from whorl.oracles.torch import TorchOracle
from whorl.symmetry.alignment.matching import match_weights
from whorl.symmetry.alignment.permutations import PermutationSpec, State, permute
from whorl.symmetry.alignment.tracing import permutation_spec

__all__ = ["in_order_of"]

ROUNDS = 2  # of matching and of scaling: factors that a thief put on units hide some of their order
LEAST = 1e-12


def in_order_of(model: TorchOracle, suspect: TorchOracle) -> nn.Module:
    """A copy of the suspect's net whose units stand beside those of ``model`` that they are most like, and as long.

    Its weights are for reading: what it computes is another function.

    Raises:
        UsageError: the nets are of two architectures, or can't be traced.
    """
    inputs = torch.zeros(2, *model.space.shape, dtype=model.space.dtype)
    spec = permutation_spec(model.net, (inputs,))
    ours, theirs = model.net.state_dict(), suspect.net.state_dict()
    if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
        raise UsageError(f"{suspect.name} is not of the architecture of {model.name}, so it can't be aligned with it")
    generator = torch.Generator().manual_seed(0)
    for _ in range(ROUNDS):
        found = match_weights(ours, theirs, spec, generator=generator)
        theirs = _scaled(permute(theirs, spec, found.permutations), ours, spec)
    aligned = copy.deepcopy(suspect.net)
    aligned.load_state_dict(theirs)
    return aligned


def _scaled(theirs: State, ours: State, spec: PermutationSpec) -> dict[str, Tensor]:
    """Tensors of which the slices of each unit, on every axis of units, are as long as those of ``ours``."""
    made = dict(theirs)
    for tensor in spec.learned:
        value, wanted = (spec.expand(tensor, state[tensor]) for state in (made, ours))
        if value.ndim < 2:
            continue
        for dimension, name in enumerate(spec.names(tensor)):
            if name is not None:
                rest = tuple(each for each in range(value.ndim) if each != dimension)
                norms = [each.square().sum(rest, keepdim=True).sqrt() for each in (wanted, value)]
                value = value * (norms[0] / norms[1].clamp_min(LEAST))
        made[tensor] = value.reshape(made[tensor].shape)
    return made
