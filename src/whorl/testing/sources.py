"""The contract of a data source: parts that share nothing, inputs in their space, the same bytes each time."""

from __future__ import annotations

from typing import Any

import torch

from whorl.data import PARTS, SOURCES, Dataset, Source
from whorl.data.base import _loaded
from whorl.errors import UsageError
from whorl.expressions import parse
from whorl.testing.plugins import check_parameters
from whorl.testing.promises import promise
from whorl.testing.unchanged import chance_unchanged, same_bytes

__all__ = ["check_source"]


def check_source(source: Source, *, disjoint: bool = True) -> None:
    """Raise `AssertionError` unless the source keeps the contract. It loads every part twice.

    Parameters:
        disjoint: whether no input may be in two parts; False for sources whose point is that some are.
    """
    check_parameters(source)
    name = type(source).__name__
    parts: dict[str, Dataset] = {}
    for part in PARTS:
        with chance_unchanged(name):
            parts[part] = source.load(part)
        _check_part(source, part, parts[part])
    _check_alike(name, parts)
    _check_again(source, parts)
    if disjoint:
        _check_disjoint(name, parts)
    try:
        source.load("everything")
    except UsageError:
        return
    raise AssertionError(f"{name} loads a part that there is none of")


def _check_part(source: Source, part: str, data: Dataset) -> None:
    name = f"{type(source).__name__}, part {part}"
    try:
        data.space.check(data.inputs())
    except UsageError as error:
        raise AssertionError(f"{name}: {error}") from None
    labels: Any = data.labels
    if source.task == "classification":
        promise(labels.dtype == torch.int64 and labels.ndim == 1, f"{name}: labels are int64 [n], not {labels.dtype}")
        promise(data.classes, f"{name} names no classes")
        known = 0 <= int(labels.min()) and int(labels.max()) < len(data.classes)
        promise(known, f"{name}: labels leave 0..{len(data.classes) - 1}")
    else:
        promise(labels.dtype == torch.float32 and labels.ndim == 2, f"{name}: numbers to predict are float32 [n, m]")
        promise(bool(labels.isfinite().all()), f"{name}: a number to predict is NaN or infinite")
    try:
        call = parse(data.expression)
    except UsageError as error:
        raise AssertionError(f"{name}: its expression can't be read: {error}") from None
    if call.name in SOURCES:
        promise(SOURCES.make(call) == source, f"{name}: its expression {data.expression} makes another source")


def _check_alike(name: str, parts: dict[str, Dataset]) -> None:
    first = parts["victim"]
    for part, data in parts.items():
        same = (data.space, data.classes, data.outputs) == (first.space, first.classes, first.outputs)
        promise(same, f"{name}: part {part} has other inputs or classes than part victim")


def _check_again(source: Source, parts: dict[str, Dataset]) -> None:
    _loaded.cache_clear()  # or memory would answer
    for part, data in parts.items():
        again = source.load(part)
        same = same_bytes(again.images, data.images) and same_bytes(again.labels, data.labels)
        promise(same, f"{type(source).__name__} gives other inputs when part {part} is loaded again")


def _check_disjoint(name: str, parts: dict[str, Dataset]) -> None:
    seen: dict[bytes, str] = {}
    for part, data in parts.items():
        mine = set(data.space.encode(data.inputs()))
        for key in mine:
            promise(key not in seen, f"{name}: parts {seen.get(key)} and {part} share an input")
        seen |= dict.fromkeys(mine, part)
