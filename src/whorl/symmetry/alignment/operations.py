"""What each tensor operation says of the axes it reads and makes: one rule for a kind of operation.

A rule joins axes that must be permuted alike and returns the axes of what the operation makes. An operation without a
rule, or used in a way that its rule does not know, fixes all it touches.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor, fx

from whorl.symmetry.alignment.blocks import Axis, fix, fixed, join, length, reshape, split

__all__ = ["Axes", "Value", "fix_value", "made", "read"]

Axes = tuple[Axis, ...]
Value = Axes | list[Axes]
"""The axes of a tensor, or of each of several."""


class _Unread(Exception):
    """An operation is used in a way that its rule does not know."""


@dataclass(frozen=True)
class _Call:
    """An operation with its arguments by name: the axes of tensors apart from everything else."""

    tensors: dict[str, Axes]
    lists: dict[str, list[Axes]]
    options: dict[str, Any]
    shape: tuple[int, ...]

    def first(self) -> Axes:
        """What the operation works on."""
        return next(iter(self.tensors.values()))


def read(node: fx.Node, values: Mapping[fx.Node, Value]) -> Value:
    """The axes of what a node makes, given those of all nodes before it."""
    if node.target is operator.getitem and isinstance(values[node.args[0]], list):  # pyright: ignore[reportArgumentType]
        return values[node.args[0]][node.args[1]]  # pyright: ignore
    try:
        return RULES[_name(node)](_bound(node, values))
    except (_Unread, LookupError, ValueError):  # no rule, or arguments that its rule does not expect
        for each in node.all_input_nodes:
            fix_value(values[each])
        return made(node, fixed)


def made(node: fx.Node, make: Callable[[int], Axis]) -> Value:
    """Axes of the shapes that a node has."""
    value = node.meta.get("val")
    if isinstance(value, tuple | list):
        return [tuple(map(make, each.shape)) if isinstance(each, Tensor) else () for each in value]
    return tuple(map(make, value.shape)) if isinstance(value, Tensor) else ()


def fix_value(value: Value) -> None:
    """Let nothing permute a tensor, or several."""
    for axes in value if isinstance(value, list) else [value]:
        fix(*axes)


def _name(node: fx.Node) -> str:
    """``conv2d`` for aten.conv2d.padding, ``relu`` for the relu that works in place."""
    packet = getattr(node.target, "overloadpacket", None)
    return str(packet).rpartition(".")[2].rstrip("_")


def _bound(node: fx.Node, values: Mapping[fx.Node, Value]) -> _Call:
    schema = node.target._schema.arguments  # pyright: ignore  an operator of aten, which has a rule
    arguments = {argument.name: argument.default_value for argument in schema}
    arguments |= dict(zip(arguments, node.args, strict=False)) | node.kwargs
    call = _Call({}, {}, {}, tuple(getattr(node.meta.get("val"), "shape", ())))
    for name, argument in arguments.items():
        if isinstance(argument, fx.Node):
            value = values[argument]
            if isinstance(value, list):
                raise _Unread
            call.tensors[name] = value
        elif isinstance(argument, Sequence) and argument and isinstance(argument[0], fx.Node):
            call.lists[name] = [values[each] for each in argument]  # pyright: ignore
        else:
            call.options[name] = argument
    return call


def _elementwise(call: _Call) -> Value:
    return _together(call.shape, *call.tensors.values())


def _together(shape: Sequence[int], *tensors: Axes) -> Axes:
    """Tensors broadcast to a shape: joined from the last axis on, an axis of length 1 with nothing."""
    made: list[Axis] = []
    for place, size in enumerate(shape, start=-len(shape)):
        axes = [axes[place] for axes in tensors if len(axes) >= -place and axes[place]]
        if any(length(axis) != size for axis in axes):
            raise _Unread
        for axis in axes[1:]:
            join(axes[0], axis)
        made.append(axes[0] if axes else fixed(size))
    return tuple(made)


def _along(axis: Axis, call: _Call, *names: str) -> None:
    """Vectors with one number for each thing on an axis."""
    for name in names:
        if name in call.tensors:
            join(axis, call.tensors[name][0])


def _linear(call: _Call) -> Value:
    inputs, weight = call.tensors["input"], call.tensors["weight"]
    join(inputs[-1], weight[1])
    _along(weight[0], call, "bias")
    return (*inputs[:-1], weight[0])


def _convolution(call: _Call) -> Value:
    inputs, weight, groups = call.tensors["input"], call.tensors["weight"], call.options["groups"]
    places = len(weight) - 2
    fix(*inputs[-places:], *weight[2:])
    outer, inner = split(inputs[-places - 1], groups)
    join(outer, split(weight[0], groups)[0] if groups > 1 else ())
    join(inner, weight[1])
    _along(weight[0], call, "bias")
    return (*inputs[: -places - 1], weight[0], *map(fixed, call.shape[-places:]))


def _norm_of_channels(call: _Call) -> Value:
    inputs = call.tensors["input"]
    if "num_groups" in call.options:
        split(inputs[1], call.options["num_groups"])
    _along(inputs[1], call, "weight", "bias", "running_mean", "running_var")
    return inputs


def _norm_of_last(call: _Call) -> Value:
    inputs = call.tensors["input"]
    for name in {"weight", "bias"} & call.tensors.keys():
        weight = call.tensors[name]
        _together(call.shape[-len(weight) :], inputs[-len(weight) :], weight)
    return inputs


def _pool(call: _Call) -> Value:
    inputs = call.first()
    fix(*inputs[-2:])
    return (*inputs[:-2], *map(fixed, call.shape[-2:]))


def _pad(call: _Call) -> Value:
    axes, sides = list(call.first()), call.options.get("pad") or call.options["padding"]
    for place in range(0, len(sides), 2):  # of the last axis first
        if any(sides[place : place + 2]):
            dim = -1 - place // 2
            fix(axes[dim])
            axes[dim] = fixed(call.shape[dim])
    return tuple(axes)


def _prelu(call: _Call) -> Value:
    inputs, weight = call.first(), call.tensors["weight"]
    if weight[0]:
        join(inputs[1], weight[0])
    return inputs


def _reduce(call: _Call) -> Value:
    inputs, dims = call.first(), call.options.get("dim")
    dims = range(len(inputs)) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    gone = {dim % len(inputs) for dim in dims}
    kept: list[Axis] = [() if place in gone else axis for place, axis in enumerate(inputs)]
    return tuple(kept if call.options.get("keepdim") else [kept[i] for i in range(len(inputs)) if i not in gone])


def _same(call: _Call) -> Value:
    return call.first()


def _reshape(call: _Call) -> Value:
    return tuple(reshape(call.first(), call.shape))


def _transpose(call: _Call) -> Value:
    axes, first, second = list(call.first()), call.options.get("dim0", -2), call.options.get("dim1", -1)
    if len(axes) > 1:
        axes[first], axes[second] = axes[second], axes[first]
    return tuple(axes)


def _permute(call: _Call) -> Value:
    return tuple(call.first()[place] for place in call.options["dims"])


def _expand(call: _Call) -> Value:
    return _together(call.shape, call.first())


def _select(call: _Call) -> Value:
    axes, dim = list(call.first()), call.options["dim"]
    fix(axes.pop(dim))
    return tuple(axes)


def _slice(call: _Call) -> Value:
    axes, dim, whole = list(call.first()), call.options["dim"], length(call.first()[call.options["dim"]])
    size, start = call.shape[dim], call.options["start"] or 0
    if size != whole:
        axes[dim] = _part(axes[dim], size, call.options["step"] == 1 and start % size == 0)
    return tuple(axes)


def _part(axis: Axis, size: int, aligned: bool) -> Axis:
    """One of several equal parts of an axis, which share their permutation; fixed where they are not equal."""
    if aligned and size and length(axis) % size == 0:
        which, part = split(axis, length(axis) // size)
        fix(which)
        return part
    fix(axis)
    return fixed(size)


def _unbind(call: _Call) -> Value:
    axes, dim = list(call.first()), call.options["dim"]
    removed = axes.pop(dim)
    fix(removed)
    return [tuple(axes)] * length(removed)


def _chunk(call: _Call) -> Value:
    axes, dim = list(call.first()), call.options["dim"]
    whole = length(axes[dim])
    sizes = call.options.get("split_sizes") or call.options.get("split_size")
    if "chunks" in call.options:
        sizes = -(-whole // call.options["chunks"])
    if isinstance(sizes, int):
        sizes = [min(sizes, whole - start) for start in range(0, whole, sizes)]
    if not isinstance(sizes, Sequence):
        raise _Unread
    equal = len(set(sizes)) == 1
    return [(*axes[: dim % len(axes)], _part(axes[dim], size, equal), *axes[dim % len(axes) + 1 :]) for size in sizes]


def _cat(call: _Call) -> Value:
    tensors, dim = call.lists["tensors"], call.options["dim"]
    for axes in tensors:
        fix(axes[dim])
    others = [(*axes[:dim], (), *axes[dim:][1:]) for axes in tensors]
    shape = [1 if place == dim % len(call.shape) else size for place, size in enumerate(call.shape)]
    together = list(_together(shape, *others))
    together[dim] = fixed(call.shape[dim])
    return tuple(together)


def _product(call: _Call) -> Value:
    one, other = [axes for name, axes in call.tensors.items() if (name, len(call.tensors)) != ("self", 3)]
    if len(one) < 2 or len(other) < 2:
        raise _Unread
    join(one[-1], other[-2])
    batch = _together(call.shape[:-2], one[:-2], other[:-2])
    made = (*batch, one[-2], other[-1])
    return _together(call.shape, made, call.tensors["self"]) if len(call.tensors) == 3 else made


def _attention(call: _Call) -> Value:
    query, key, value = (call.tensors[name] for name in ("query", "key", "value"))
    if call.options["enable_gqa"]:
        raise _Unread
    join(query[-1], key[-1])
    join(key[-2], value[-2])
    if call.options["is_causal"]:
        fix(query[-2], key[-2])
    batch = _together(call.shape[:-2], query[:-2], key[:-2], value[:-2])
    if "attn_mask" in call.tensors:
        scores = (*batch, query[-2], key[-2])
        _together([length(axis) for axis in scores], scores, call.tensors["attn_mask"])
    return (*batch, query[-2], value[-1])


def _embedding(call: _Call) -> Value:
    weight, indices = call.tensors["weight"], call.tensors["indices"]
    fix(weight[0])
    return (*indices, weight[1])


_Rule = Callable[[_Call], Value]
_RULES_BY_NAMES: Final[Mapping[str, _Rule]] = {
    "abs add alias clamp clamp_max clamp_min clone contiguous cos detach div dropout elu eq erf exp feature_dropout ge"
    " gelu gt hardsigmoid hardswish hardtanh le leaky_relu log logical_and logical_not lt masked_fill maximum minimum"
    " mish mul ne neg pow reciprocal relu relu6 rsqrt rsub sigmoid silu sin softplus sqrt square sub tanh to type_as"
    " where _to_copy": _elementwise,
    "linear": _linear,
    "conv1d conv2d conv3d": _convolution,
    "batch_norm instance_norm group_norm": _norm_of_channels,
    "layer_norm rms_norm": _norm_of_last,
    "max_pool2d avg_pool2d adaptive_avg_pool2d upsample_bilinear2d upsample_nearest2d": _pool,
    "constant_pad_nd pad reflection_pad2d replication_pad2d": _pad,
    "prelu": _prelu,
    "amax amin linalg_vector_norm mean std sum var": _reduce,
    "softmax log_softmax _assert_tensor_metadata": _same,
    "flatten reshape squeeze unflatten unsqueeze view _unsafe_view": _reshape,
    "mT t transpose": _transpose,
    "permute": _permute,
    "expand expand_as": _expand,
    "select": _select,
    "slice": _slice,
    "unbind": _unbind,
    "chunk split split_with_sizes": _chunk,
    "cat": _cat,
    "addmm baddbmm bmm matmul mm": _product,
    "scaled_dot_product_attention": _attention,
    "embedding": _embedding,
}
RULES: Final = {name: rule for names, rule in _RULES_BY_NAMES.items() for name in names.split()}
