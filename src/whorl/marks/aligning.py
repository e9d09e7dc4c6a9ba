"""A suspect with its units in the order and size of the unmarked model, so that bits in its weights can be read.

Whoever reorders the units of a copy, or puts factors on them, moves what a projection reads. The order is found again
by matching weights with the model that the copies were made of (Ainsworth et al., *Git Re-Basin*, ICLR 2023, algorithm
1), and the weights of each unit are made as long as in that model, which undoes positive factors. That model was fixed
before bits or rows were drawn. Neither step sees a marked copy or a row, so a suspect that was made without them is
aligned without regard to the draw, and p-values stay exact.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from math import prod
from typing import Final

import torch
from torch import Tensor, nn

from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.torch import TorchOracle
from whorl.symmetry.alignment.matching import match_weights
from whorl.symmetry.alignment.permutations import PermutationSpec, State, permute
from whorl.symmetry.alignment.tracing import permutation_spec
from whorl.types import Access

__all__ = ["Aligned", "in_order_of"]

ROUNDS: Final = 2  # of matching and of scaling: factors that a thief put on units hide some of their order
PASSES: Final = 10  # after which another pass over the axes of a matrix changes little
LEAST: Final = 1e-12


@dataclass(frozen=True)
class _Found:
    """The state in order and size; for the outputs of each tensor which of them stand where, and their factors."""

    state: State
    places: State
    factors: State


class Aligned(TorchOracle):
    """A suspect whose weights and activations are read in the order and size of another model's units.

    Its answers, its digest and what it grants are the suspect's own. ``net`` is for reading weights, and computes
    another function; `activations` are those that the suspect has, each in its unit's place and by its unit's factor.

    Parameters:
        model: fixed before anything was drawn that is read here.
        suspect: with its weights; left as it is.

    Raises:
        UsageError: the suspect is of another architecture or holds NaN or infinite weights, or a net can't be traced.
    """

    def __init__(self, model: TorchOracle, suspect: TorchOracle) -> None:
        super().__init__(
            suspect.module,
            input_shape=suspect.space,
            classes=suspect.classes,
            access=suspect.access,
            name=suspect.name,
            digest=suspect.digest,
            task=suspect.task,
        )
        self.class_names = suspect.class_names
        self._own = suspect.net
        self._found = _aligned(model, suspect)
        self._read = copy.deepcopy(self._own)
        self._read.load_state_dict(self._found.state)

    @property
    def net(self) -> nn.Module:
        """The aligned weights; refused below `Access.WEIGHTS`."""
        _ = self.module
        return self._read

    def activations(self, inputs: Tensor, layer: str) -> Tensor:
        """Outputs ``[n, units]`` of one of the `layers`, as `TorchOracle.activations` has them, aligned."""
        found = super().activations(inputs, layer)
        target = dict(self._module.named_modules())[layer]
        own = next((name for name, each in self._own.named_modules() if each is target), None)
        if (tensor := f"{own}.weight") not in self._found.places:
            return found
        return found[:, self._found.places[tensor]] * self._found.factors[tensor].to(found)

    @staticmethod
    def of(model: TorchOracle, suspect: Oracle) -> Aligned:
        """The suspect, aligned. Raises `UsageError` too where it is no PyTorch net whose weights are granted."""
        if not isinstance(suspect, TorchOracle) or suspect.access is not Access.WEIGHTS:
            raise UsageError(
                f"units are put in order by weights, and {suspect.name} grants none: give its file, or leave out "
                "--align-to"
            )
        return Aligned(model, suspect)


def in_order_of(model: TorchOracle, suspect: TorchOracle) -> nn.Module:
    """A copy of the suspect's net whose units stand beside those of ``model`` that they are most like, and as long.

    Its weights are for reading: what it computes is another function.

    Raises:
        UsageError: the nets are of two architectures, can't be traced, or hold NaN or infinite weights.
    """
    aligned = copy.deepcopy(suspect.net)
    aligned.load_state_dict(_aligned(model, suspect).state)
    return aligned


def _aligned(model: TorchOracle, suspect: TorchOracle) -> _Found:
    for each in (model, suspect):
        if not all(bool(value.isfinite().all()) for value in each.net.parameters()):
            raise UsageError(f"{each.name} holds NaN or infinite weights, in which no order can be found")
    inputs = torch.zeros(2, *model.space.shape, dtype=model.space.dtype)
    spec = permutation_spec(model.net, (inputs,))
    ours, theirs = model.net.state_dict(), suspect.net.state_dict()
    if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
        raise UsageError(f"{suspect.name} is not of the architecture of {model.name}, so it can't be aligned with it")
    generator = torch.Generator().manual_seed(0)
    matrices = frozenset(name for name in spec.learned if ours[name].ndim > 1)
    spec = replace(spec, learned=matrices)  # the numbers of a unit in biases and norms are as large as its factor
    outputs = PermutationSpec({name: spec.layouts[name][:1] for name in matrices}, spec.sizes, frozenset())
    places: State = {name: torch.arange(len(ours[name])) for name in matrices}
    factors: State = {name: torch.ones(len(ours[name]), dtype=torch.float64) for name in matrices}
    for number in range(ROUNDS):
        # Units of any size are matched at first by what is left of both when none is longer than another.
        one, other = (_even(each, spec) for each in (ours, theirs)) if number == 0 else (ours, theirs)
        found = match_weights(one, other, spec, generator=generator).permutations
        places, factors = permute(places, outputs, found), permute(factors, outputs, found)
        theirs = permute(theirs, spec, found)
        for _ in range(PASSES):
            theirs, grown = _scaled(theirs, ours, spec)
            factors = {name: value * grown[name] for name, value in factors.items()}
    return _Found(theirs, places, factors)


def _even(state: State, spec: PermutationSpec) -> State:
    """Tensors of which the slices of each unit, on every axis of units, are of length 1."""
    for _ in range(PASSES):
        state, _ = _scaled(state, None, spec)
    return state


def _scaled(theirs: State, ours: State | None, spec: PermutationSpec) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors of which the slices of each unit, on every axis of units, are as long as those of ``ours``, or 1.

    And the factors ``[outputs]`` by which the outputs of each grew.
    """
    made, grown = dict(theirs), dict[str, Tensor]()
    for tensor in spec.learned:
        value = spec.expand(tensor, made[tensor])
        blocks = [block.size for block in spec.layouts[tensor][0]]
        outputs = torch.ones(blocks, dtype=torch.float64)
        for dimension, name in enumerate(spec.names(tensor)):
            if name is not None:
                rest = tuple(each for each in range(value.ndim) if each != dimension)
                wanted = 1.0 if ours is None else _lengths(spec.expand(tensor, ours[tensor]), rest)
                factor = wanted / _lengths(value, rest).clamp_min(LEAST)
                value = value * factor
                if dimension < len(blocks):
                    outputs = outputs * factor.reshape(factor.shape[: len(blocks)]).cpu().double()
        made[tensor] = value.reshape(made[tensor].shape)
        grown[tensor] = outputs.reshape(prod(blocks))
    return made, grown


def _lengths(value: Tensor, rest: tuple[int, ...]) -> Tensor:
    return value.square().sum(rest, keepdim=True).sqrt()
