"""A suspect with its units in the order of the unmarked model, so that bits in its weights can be read.

Whoever reorders the units of a copy moves what a projection reads. The order is found again by matching weights with
the model that the copies were made of (Ainsworth et al., *Git Re-Basin*, ICLR 2023, algorithm 1), which was fixed
before bits or rows were drawn. Matching never sees a marked copy or a row, so a suspect that was made without them is
aligned without regard to the draw, and p-values stay exact.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from whorl.errors import UsageError
from whorl.oracles.torch import TorchOracle
from whorl.symmetry.alignment.matching import match_weights
from whorl.symmetry.alignment.permutations import permute
from whorl.symmetry.alignment.tracing import permutation_spec

__all__ = ["in_order_of"]


def in_order_of(model: TorchOracle, suspect: TorchOracle) -> nn.Module:
    """A copy of the suspect's net whose units stand beside those of ``model`` that they are most like.

    Raises:
        UsageError: the nets are of two architectures, or can't be traced.
    """
    inputs = torch.zeros(2, *model.space.shape, dtype=model.space.dtype)
    spec = permutation_spec(model.net, (inputs,))
    ours, theirs = model.net.state_dict(), suspect.net.state_dict()
    if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
        raise UsageError(f"{suspect.name} is not of the architecture of {model.name}, so it can't be aligned with it")
    found = match_weights(ours, theirs, spec, generator=torch.Generator().manual_seed(0))
    aligned = copy.deepcopy(suspect.net)
    aligned.load_state_dict(permute(theirs, spec, found.permutations))
    return aligned
