"""What the formats have in common: bounded fields, tensors taken by name, queries that fit their space."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from whorl.layouts import finite
from whorl.spaces import InputSpace
from whorl.types import Queries

__all__ = ["MAX_QUERIES", "Count", "Document", "Finite", "Name", "Text", "numbers_of", "queries_of", "take"]

MAX_QUERIES: Final = 10**6

Text = Annotated[str, Field(max_length=4096)]
Name = Annotated[str, Field(max_length=300)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=MAX_QUERIES)]


class Document(BaseModel):
    """A part of a document: no field is missing, unknown, or of another type."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def take(tensors: dict[str, Tensor], name: str) -> Tensor:
    """Take the tensor out of ``tensors``; it must be there and finite. Raises ValueError."""
    if name not in tensors:
        raise ValueError(f"it lacks the tensor {name!r}")
    value = tensors.pop(name)
    if not finite(value):
        raise ValueError(f"{name!r} holds NaN or an infinity")
    return value


def queries_of(
    tensors: dict[str, Tensor], space: InputSpace, notes: Mapping[str, Any], prefix: str = "queries"
) -> Queries:
    """Take the queries with their companions. Raises ValueError where they are no inputs of ``space``."""
    inputs = take(tensors, f"{prefix}/inputs")
    if inputs.ndim and len(inputs) > MAX_QUERIES:
        raise ValueError(f"it holds {len(inputs):,} queries; at most {MAX_QUERIES:,} are read")
    space.check(inputs)
    # A mark in weights asks none: [n, 0, *input]. That its scheme says so is seen by who knows schemes.
    asks_none = prefix == "queries" and space.each(inputs) == 0
    if not len(inputs) or not (inputs.numel() or asks_none):
        raise ValueError(f"'{prefix}/inputs' holds no query")
    parts: dict[str, dict[str, Tensor]] = {"companions": {}, "shared": {}}
    for name in list(tensors):
        if match := re.fullmatch(rf"{prefix}/(companions|shared)/([A-Za-z_][\w.-]{{0,63}})", name, re.ASCII):
            value = take(tensors, name)
            parts[match.group(1)][match.group(2)] = value
            if match.group(1) == "companions" and value.shape[:1] != inputs.shape[:1]:
                raise ValueError(f"{name!r} does not count the {len(inputs)} queries on its axis 0")
    return Queries(inputs, parts["companions"], notes, parts["shared"])


def numbers_of(tensors: dict[str, Tensor], name: str, count: int) -> tuple[float, ...]:
    """Take ``count`` float64 numbers. Raises ValueError where there are more or fewer."""
    values = take(tensors, name)
    if values.dtype != torch.float64 or values.shape != (count,):
        raise ValueError(f"{name!r} is not float64 [{count}], one for each named model")
    return tuple(cast(list[float], values.tolist()))  # pyright: ignore[reportUnknownMemberType]
