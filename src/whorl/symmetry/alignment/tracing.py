"""The permutation symmetries of a net, read off its graph.

`torch.export` writes the net down as a `torch.fx` graph of tensor operations, with the name of every weight, whatever
modules, functions and methods it was written with. Each operation says which axes of what it reads and makes go
together (`whorl.symmetry.alignment.operations`); one that is not known fixes all it touches. Inputs and outputs are
fixed.

Heads of attention are permuted as blocks, and so are the places within a head, by one permutation for all heads of a
layer (and for query, key and value, where one matrix makes them): the largest group of product form. Channels that are
concatenated (DenseNet) are fixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram, export
from torch.export.graph_signature import InputKind

from whorl.errors import UsageError
from whorl.nets.base import Net
from whorl.nets.modes import evaluating
from whorl.symmetry.alignment.blocks import Unit, fixed, fresh, join, leaves
from whorl.symmetry.alignment.operations import Axes, Value, fix_value, made, read
from whorl.symmetry.alignment.permutations import Block, Layout, PermutationSpec

__all__ = ["permutation_spec"]


def permutation_spec(net: nn.Module, inputs: tuple[Any, ...] | None = None) -> PermutationSpec:
    """What can be permuted in a net. Nothing is computed; the net is left as it was.

    Parameters:
        inputs: an example of what ``net`` is called with; two pictures by default, for the nets of whorl.

    Raises:
        UsageError: the net can't be traced, or is not one of whorl's and came without ``inputs``.
    """
    if inputs is None:
        if not isinstance(net, Net):
            raise UsageError(f"{type(net).__name__} is not one of whorl's nets; give an example of its inputs")
        inputs = (torch.zeros(2, *net.input_shape),)
    program = _exported(net, inputs)
    state = net.state_dict(keep_vars=True)
    axes = _axes(program, state)
    names = _named(axes)
    layouts = {tensor: _layout(each, names) for tensor, each in axes.items()}
    sizes = {name: unit.size for unit, name in names.items()}
    learned = frozenset(tensor for tensor, value in state.items() if isinstance(value, nn.Parameter))
    return PermutationSpec(layouts, sizes, learned)


def _exported(net: nn.Module, inputs: tuple[Any, ...]) -> ExportedProgram:
    try:
        with evaluating(net):
            return export(net, inputs, strict=False)
    except Exception as error:  # whatever its code does with tensors that hold no numbers
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{type(net).__name__} can't be traced: {reason[:200]}") from None


def _axes(program: ExportedProgram, state: dict[str, Tensor]) -> dict[str, Axes]:
    """The axes of every tensor of the state, once the graph is read; fixed for tensors that it does not use."""
    held: dict[str, Axes] = {}
    values: dict[fx.Node, Value] = {}
    origin = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            spec = origin[node.name]
            used = spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target in state and node.users
            values[node] = axes = made(node, fresh if used else fixed)
            if used and isinstance(axes, tuple):
                held[str(spec.target)] = axes
        elif node.op == "output":
            for each in node.all_input_nodes:
                fix_value(values[each])
        else:
            values[node] = read(node, values)
    by_tensor: dict[int, Axes] = {}  # one tensor may have several names
    for tensor, axes in held.items():
        for one, other in zip(by_tensor.setdefault(id(state[tensor]), axes), axes, strict=True):
            join(one, other)
    return {tensor: by_tensor.get(id(value)) or tuple(map(fixed, value.shape)) for tensor, value in state.items()}


def _named(axes: dict[str, Axes]) -> dict[Unit, str]:
    """A name for each unit that may be permuted: that of the first tensor that makes it, else of one that reads it."""
    names: dict[Unit, str] = {}
    first = ((tensor, unit) for tensor, each in axes.items() for axis in each[:1] for unit in leaves(axis))
    later = ((tensor, unit) for tensor, each in axes.items() for axis in each[1:] for unit in leaves(axis))
    for tensor, unit in chain(first, later):
        if not unit.fixed and unit not in names:
            base = tensor.removesuffix(".weight")
            taken = sum(name.partition("/")[0] == base for name in names.values())
            names[unit] = f"{base}/{taken}" if taken else base
    return names


def _layout(axes: Axes, names: dict[Unit, str]) -> Layout:
    return tuple(tuple(_merged(Block(unit.size, names.get(unit)) for unit in leaves(axis))) for axis in axes)


def _merged(blocks: Iterable[Block]) -> Iterator[Block]:
    """Neighbours that nothing permutes as one block."""
    for name, group in groupby(blocks, key=lambda block: block.permutation):
        if name is None:
            yield Block(prod(block.size for block in group), None)
        else:
            yield from group
