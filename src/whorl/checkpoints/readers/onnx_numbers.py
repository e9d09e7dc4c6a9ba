"""The numbers of ONNX tensors: types, what several numbers to a byte hold, and integers with scales.

Formats: ``onnx/docs/IR.md`` and ``onnx.proto`` (numbers of 4 and 2 bits lie in a byte from its lowest bits upwards),
``onnx/docs/Operators.md`` (`DequantizeLinear`), and onnxruntime's ``docs/ContribOperators.md`` (`MatMulNBits` and
`GatherBlockQuantized`: bytes hold zero points as they hold numbers, row by row; where there are none they are the
middle of the range).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from whorl.checkpoints.readers.onnx_graph import Scale
from whorl.errors import InvalidFile
from whorl.storage import one_line

__all__ = ["INTEGERS", "TYPES", "listed", "nbytes", "scaled", "scaled_shape", "unpacked"]

TYPES: Final = {
    "FLOAT": torch.float32,
    "DOUBLE": torch.float64,
    "FLOAT16": torch.float16,
    "BFLOAT16": torch.bfloat16,
    "FLOAT8E4M3FN": torch.float8_e4m3fn,
    "FLOAT8E5M2": torch.float8_e5m2,
    "INT64": torch.int64,
    "INT32": torch.int32,
    "INT16": torch.int16,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "UINT16": torch.uint16,
    "BOOL": torch.bool,
    **dict.fromkeys(("INT4", "INT2"), torch.int8),  # once they are unpacked
    **dict.fromkeys(("UINT4", "UINT2"), torch.uint8),
}
BITS: Final = {"INT4": 4, "UINT4": 4, "INT2": 2, "UINT2": 2}
INTEGERS: Final = frozenset({"INT8", "UINT8", "INT16", "UINT16", "INT32", *BITS})  # that may stand for other numbers
Shape = tuple[int, ...]


def nbytes(word: str, shape: Sequence[int]) -> int:
    """What a tensor of this type and shape takes."""
    return -(-prod(shape) * BITS[word] // 8) if word in BITS else prod(shape) * TYPES[word].itemsize


def unpacked(buffer: bytearray, word: str, shape: Sequence[int]) -> Tensor:
    """A tensor from its bytes."""
    if not buffer:
        return torch.empty(tuple(shape), dtype=TYPES[word])
    if word not in BITS:
        return torch.frombuffer(buffer, dtype=TYPES[word]).reshape(tuple(shape))
    bits = BITS[word]
    value = _numbers(torch.frombuffer(buffer, dtype=torch.uint8), bits)[: prod(shape)].reshape(tuple(shape))
    if word.startswith("U"):
        return value
    value = value.to(torch.int8)
    return torch.where(value >= 1 << (bits - 1), value - (1 << bits), value)


def _numbers(packed: Tensor, bits: int) -> Tensor:
    """Numbers of so many bits out of bytes, along the last axis: ``[..., n]`` to ``[..., 8 n / bits]``, uint8."""
    if bits not in (2, 4, 8):
        raise ValueError(f"numbers of {bits} bits")
    parts = [(packed >> shift) & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    return torch.stack(parts, -1).flatten(-2)


def _is_packed(word: str, scale: Scale) -> bool:
    return scale.bits > 0 and word == "UINT8"


def scaled_shape(word: str, shape: Shape, scale: Scale) -> Shape:
    """The shape that integers have once they are unpacked. Raises `ValueError` where it makes no sense."""
    if not _is_packed(word, scale):
        return shape
    if scale.bits not in (2, 4, 8) or len(shape) < 2:
        raise ValueError(f"numbers of {scale.bits} bits in the shape {shape}")
    columns = prod(shape[1:]) * 8 // scale.bits
    if not 0 <= scale.columns <= columns:
        raise ValueError(f"{scale.columns:,} columns in rows of {columns:,} numbers")
    return shape[0], scale.columns or columns


def scaled(word: str, shape: Shape, scale: Scale, read: Callable[[str], Tensor], value: Tensor | None) -> Tensor:
    """What integers stand for, of their `scaled_shape`; in tensors without content where there is no ``value``.

    ``read`` gives the tensors that ``scale`` names. Raises `ValueError` for scales that do not fit.
    """
    whole = scaled_shape(word, shape, scale)
    packed = _is_packed(word, scale)
    if value is None:
        value = torch.empty(whole, device="meta")
    elif packed:
        value = _numbers(value.flatten(1), scale.bits)[:, : whole[1]]
    if packed:
        return _blocks(value.float(), whole, scale, read)
    value = value.float()
    if scale.zero:
        value = value - _spread(read(scale.zero).float(), whole, scale)
    return value * _spread(read(scale.scale).float(), whole, scale)


def _blocks(value: Tensor, shape: Shape, scale: Scale, read: Callable[[str], Tensor]) -> Tensor:
    """Integers of a packed matrix: the scale of a block, or of the block that its place names."""
    rows, columns = shape
    if scale.block < 1:
        raise ValueError(f"blocks of {scale.block} columns")
    blocks = -(-columns // scale.block)
    scales = read(scale.scale).float()
    zeros = read(scale.zero) if scale.zero else torch.tensor(float(1 << (scale.bits - 1)), device=value.device)
    if zeros.ndim and zeros.dtype == torch.uint8:
        zeros = _numbers(zeros.reshape(rows, -1), scale.bits)[:, :blocks]
    if scales.numel() != rows * blocks or (zeros.ndim and zeros.numel() != rows * blocks):
        raise ValueError(f"scales of the shape {list(scales.shape)} do not fit {rows} rows of {blocks} blocks")
    order = torch.arange(columns) // scale.block
    if scale.places and value.device.type != "meta":
        order = read(scale.places).long()
        if order.shape != (columns,) or not (0 <= int(order.min()) and int(order.max()) < blocks):
            raise ValueError(
                f"blocks of {columns} columns are named by {list(order.shape)} numbers that are none of them"
            )
    order = order.to(value.device)
    zeros = zeros.float().reshape(rows, blocks)[:, order] if zeros.ndim else zeros
    return (value - zeros) * scales.reshape(rows, blocks)[:, order]


def _spread(scale: Tensor, shape: Sequence[int], how: Scale) -> Tensor:
    """Scales or zero points as many as ``shape``: one for all, one for each place of an axis, or one for a block of it.

    Raises `ValueError` where they do not fit.
    """
    axis = how.axis
    if scale.numel() == 1:
        return scale.reshape([1] * len(shape)).expand(*shape)
    if -len(shape) <= axis < len(shape):
        axis %= len(shape)
        if scale.ndim == 1 and len(scale) == shape[axis]:
            return scale.reshape([-1 if each == axis else 1 for each in range(len(shape))]).expand(*shape)
        steps = scale.shape[axis] if scale.ndim == len(shape) else 0
        if steps and [*scale.shape[:axis], *scale.shape[axis + 1 :]] == [*shape[:axis], *shape[axis + 1 :]]:
            block = how.block or -(-shape[axis] // steps)
            if -(-shape[axis] // block) == steps:
                return scale.repeat_interleave(block, axis).narrow(axis, 0, shape[axis])
    raise ValueError(f"scales of the shape {list(scale.shape)} do not fit integers of {list(shape)}")


def listed(path: Path, name: str, message: bytes) -> Tensor:
    """A tensor whose message lists its numbers. Raises `InvalidFile` for a damaged one."""
    import onnx
    from onnx import numpy_helper

    try:
        value: Any = numpy_helper.to_array(onnx.TensorProto.FromString(message))
        if value.dtype.kind not in "fiub" or value.dtype == np.uint16:  # halves and eighths that numpy does not have
            value = value.astype(np.float32)
        return torch.from_numpy(np.array(value))
    except Exception as error:  # whatever protobuf or numpy find wrong
        raise InvalidFile(f"{path}: {name[:100]!r} is damaged: {one_line(error)}") from None
