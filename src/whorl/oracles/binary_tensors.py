"""Tensors as bytes, as the Open Inference Protocol's binary extension sends them. Nothing here touches the network.

A body is a JSON document, as long as the header ``Inference-Header-Content-Length`` says, and then the bytes of each
tensor that states a ``binary_data_size``, in the order of the document: little-endian numbers row by row, or for BYTES
each text after its length in 4 bytes. Sources: the protocol's "Binary Tensor Data Extension"
(https://github.com/kserve/open-inference-protocol), Triton (``docs/protocol/extension_binary_data.md``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from whorl.errors import OracleError, UsageError
from whorl.oracles.formats import describe, shorten

__all__ = ["HEADER", "fitting", "numbers", "parts", "raw"]

HEADER: Final = "Inference-Header-Content-Length"
FLOATS: Final = {"FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8")}
TYPES: Final = {
    **FLOATS,
    "BF16": np.dtype("<u2"),  # numpy has no such type: the upper half of a float32
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    "BOOL": np.dtype("?"),
}


def fitting(values: Tensor, datatype: str) -> np.ndarray:
    """Float32 values as numbers of a type of the protocol; BF16 as its bits, ``<u2``.

    Raises:
        UsageError: the type is none of numbers, or does not hold these.
    """
    if datatype not in TYPES:
        raise UsageError(f"the model takes {shorten(datatype)}; pictures can be sent as {', '.join(TYPES)}")
    kind = TYPES[datatype]
    if datatype == "BF16":
        return values.to(torch.bfloat16).view(torch.int16).numpy().view(kind)
    given = values.numpy()
    if datatype in FLOATS:
        with np.errstate(over="ignore"):
            outside = ~np.isfinite(given.astype(kind))
    else:
        given = given.round()
        low, high = (0, 1) if datatype == "BOOL" else (np.iinfo(kind).min, np.iinfo(kind).max)
        outside = (given < low) | (given > high)
    if outside.any():
        raise UsageError(
            f"the model takes {datatype}, which cannot hold {given[outside][0]:g}; set input.range, mean and std to "
            "what the model was trained on"
        )
    return given.astype(kind)


def parts(body: bytes | bytearray, told: str) -> tuple[memoryview, memoryview]:
    """The JSON document of a body and the bytes behind it. Raises `OracleError` where ``told`` is not its length."""
    if not (told.isascii() and told.isdigit() and len(told) < 20 and int(told) <= len(body)):
        raise OracleError(
            f"the header {HEADER} says {shorten(told, 20)!r}, and the answer has {len(body):,} bytes, so where its "
            "JSON ends can't be told"
        )
    whole = memoryview(body)
    return whole[: int(told)], whole[int(told) :]


def raw(outputs: Sequence[dict[str, Any]], rest: memoryview) -> list[memoryview | None]:
    """The bytes of each output, None of one whose numbers are in the document.

    Raises:
        OracleError: the sizes that the outputs state are none, or do not make up what follows the document.
    """
    found: list[memoryview | None] = []
    at = 0
    for output in outputs:
        parameters = output.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            found.append(None)
            continue
        if type(size) is not int or not 0 <= size <= len(rest) - at:
            raise OracleError(
                f"an output states a binary_data_size of {describe(size)}, and {len(rest) - at:,} bytes are left"
            )
        found.append(rest[at : at + size])
        at += size
    if at != len(rest):
        raise OracleError(f"the outputs state {at:,} bytes of binary data, and {len(rest):,} came")
    return found


def numbers(data: memoryview, datatype: object, count: int) -> list[Any]:
    """The ``count`` numbers, or texts of BYTES, in the bytes of an output.

    Raises:
        OracleError: an unknown type, or another number of bytes.
    """
    if datatype == "BYTES":
        return _texts(data, count)
    kind = TYPES.get(datatype) if isinstance(datatype, str) else None
    if kind is None:
        raise OracleError(f"an output has the data type {describe(datatype)}, which is not read")
    if len(data) != count * kind.itemsize:
        raise OracleError(
            f"an output of {count:,} numbers in {datatype} has {len(data):,} bytes; {count * kind.itemsize:,} are due"
        )
    values = np.frombuffer(data, kind)
    if datatype == "BF16":
        values = (values.astype("<u4") << 16).view("<f4")
    return values.tolist()


def _texts(data: memoryview, count: int) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(data) and len(found) <= count:
        length, start = int.from_bytes(data[at : at + 4], "little"), at + 4
        if start + length > len(data):
            raise OracleError("a text of an output in BYTES is longer than what came")
        found.append(bytes(data[start : start + length]).decode(errors="replace"))
        at = start + length
    if len(found) != count or at != len(data):
        raise OracleError(f"an output in BYTES does not hold the {count:,} texts that its shape says")
    return found
