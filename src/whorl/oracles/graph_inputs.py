"""Which range of pictures an ONNX graph takes, read from the arithmetic that it begins with."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

__all__ = ["input_top"]

PASSES: Final = frozenset({
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "CastLike", "Dropout", "Transpose", "Resize",
    "Upsample", "Pad", "Slice", "Gather",
})  # fmt: skip
SMALL: Final = 4096  # numbers in a constant that is looked at


def input_top(graph: Any, name: str) -> float | None:
    """What white is to the graph, from the arithmetic that it begins with; None where it has none.

    ``(x / 255 - 0.5) / 0.5`` and ``x - 104`` begin at pictures in 0..255, and so does a quantisation with steps of 1.
    The answer is 255 for these, 1 for arithmetic that suits pictures in 0..1 or -1..1, and the divisor for any other.
    """
    constants, readers = _indexed(graph)
    scale, shift, seen = np.ones(1), np.zeros(1), False
    while len(readers.get(name, [])) == 1:
        (node,) = readers[name]
        op, others = node.op_type, [_numbers(constants.get(each)) for each in node.input if each != name]
        ahead = node.input[0] == name
        if op == "QuantizeLinear" and ahead and others[0] is not None:
            return _whole(_highest(constants.get(node.input[2]) if len(others) > 1 else None, others[0], scale, shift))
        if not (ahead and op in PASSES):
            usable = op in ("Mul", "Add") or (ahead and op in ("Div", "Sub", "DequantizeLinear"))
            if not usable or not others or any(each is None for each in others):
                break
            scale, shift = _affine(op, scale, shift, [each for each in others if each is not None])
            seen = True
        name = node.output[0]
    with np.errstate(all="ignore"):
        spread, centre = float((1 / np.abs(scale)).max()), float((-shift / scale).max())
    if not seen or not math.isfinite(spread + centre):
        return None
    return 255.0 if 2 < centre <= 255 else _whole(spread)


def _indexed(graph: Any) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The constant tensors, and the nodes that read each value for more than its shape."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    constants[node.output[0]] = attribute.t
        elif node.op_type not in ("Shape", "Size"):
            for each in node.input:
                readers.setdefault(each, []).append(node)
    return constants, readers


def _whole(top: float) -> float:
    if 25 <= top <= 300:  # 1 / 255, 1 / 127.5, or the deviation of a photo's channel
        return 255.0
    return 1.0 if top < 3 else top


def _highest(zero: Any, step: Any, scale: Any, shift: Any) -> float:
    """The input whose quantised value is the largest of its type."""
    origin = _numbers(zero)
    largest = 127 if zero is not None and zero.data_type == zero.INT8 else 255
    levels = largest - (0.0 if origin is None else float(origin.max()))
    with np.errstate(all="ignore"):
        return float(((levels * step.max() - shift) / scale).max())


def _affine(op: str, scale: Any, shift: Any, others: list[Any]) -> tuple[Any, Any]:
    """The line ``scale * x + shift`` after one more operator; channels are flattened, as only extremes are used."""
    first = others[0].ravel()
    if len(scale) > 1 and len(first) > 1 and len(scale) != len(first):
        return scale * np.nan, shift
    with np.errstate(all="ignore"):
        if op == "Mul":
            return scale * first, shift * first
        if op == "Div":
            return scale / first, shift / first
        if op == "DequantizeLinear":
            zero = others[1].ravel()[0] if len(others) > 1 else 0.0
            return scale * first, (shift - zero) * first
        return scale + 0 * first, shift + (first if op == "Add" else -first)


def _numbers(tensor: Any) -> Any:
    from onnx import numpy_helper

    if tensor is None or not 0 < math.prod(tensor.dims) <= SMALL:
        return None
    try:
        return numpy_helper.to_array(tensor).astype(np.float64)
    except Exception:  # a tensor that lies about itself makes onnx and numpy raise anything
        return None
