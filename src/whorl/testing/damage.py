"""A fingerprint of which one thing is false is refused in one line, or judged like any other: it never ends in a crash.

Files come from adversaries. Whatever passes a scheme's own declaration (`Scheme.check_fingerprint`) has to be
something that the scheme can work with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from whorl.errors import WhorlError
from whorl.oracles.base import Oracle
from whorl.schemes.base import Scheme
from whorl.testing.promises import promise
from whorl.types import Fingerprint, Queries, Representation

__all__ = ["check_damage", "damaged"]


def check_damage(scheme: Scheme, fingerprint: Fingerprint, suspect: Oracle) -> None:
    """Raise `AssertionError` where a damaged fingerprint crashes the scheme.

    Parameters:
        suspect: a model that the fingerprint may be held against.
    """
    for what, broken in damaged(fingerprint):
        try:
            scheme.check_fingerprint(broken)
        except ValueError as error:
            promise(str(error).isprintable(), f"{scheme.name} refuses {what} in more than one line: {error}")
            continue
        try:
            scheme.verify(broken, suspect)
        except WhorlError:
            continue
        except Exception as error:
            raise AssertionError(
                f"{scheme.name} accepts a fingerprint with {what} and ends in {type(error).__name__}: {error}; "
                "declare the layout in `tensors`, `values` or `facts`"
            ) from error


def damaged(fingerprint: Fingerprint) -> Iterator[tuple[str, Fingerprint]]:
    """What was done, and the fingerprint with that one change: every tensor and note in several ways."""
    queries = fingerprint.queries
    for name, value in queries.companions.items():
        yield f"companion {name} missing", _with(fingerprint, companions=_without(queries.companions, name))
        for what, other in _changed(value):
            yield f"companion {name} {what}", _with(fingerprint, companions={**queries.companions, name: other})
    for name, value in queries.shared.items():
        yield f"shared {name} missing", _with(fingerprint, shared=_without(queries.shared, name))
        for what, other in _changed(value):
            yield f"shared {name} {what}", _with(fingerprint, shared={**queries.shared, name: other})
    for name in queries.notes:
        yield f"note {name} missing", _with(fingerprint, notes=_without(queries.notes, name))
        for other in (None, "", -1, [], {}):
            yield f"note {name} set to {other!r}", _with(fingerprint, notes={**queries.notes, name: other})
    yield "an unknown companion", _with(fingerprint, companions={**queries.companions, "more": queries.inputs})
    for what, other in _changed(queries.inputs):
        yield f"inputs {what}", _with(fingerprint, inputs=other)
    for what, other in _changed(fingerprint.reference.values):
        yield f"reference {what}", replace(fingerprint, reference=Representation(other))
    for classes in (0, 1, fingerprint.classes + 1, 10**6):
        yield f"{classes} classes", replace(fingerprint, classes=classes)


def _changed(value: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "of another type", value.to(torch.int64 if value.is_floating_point() else torch.float32)
    yield "in double", value.double()
    yield "of one axis more", value[..., None]
    if value.ndim:
        yield "of one axis less", value[0]
        yield "cut short", value[:-1]
        yield "doubled", torch.cat([value, value])
        yield "of a wider last axis", torch.cat([value, value], dim=-1)
        yield "empty", value[:0]
    if value.is_floating_point():
        yield "zero", torch.zeros_like(value)
        yield "not a number", torch.full_like(value, torch.nan)
        yield "huge", torch.full_like(value, 1e30)
    elif value.dtype != torch.bool:
        yield "negative", value - 10**6
        yield "large", value + 10**6


def _with(fingerprint: Fingerprint, **change: Any) -> Fingerprint:
    queries = fingerprint.queries
    parts = {
        "inputs": queries.inputs,
        "companions": queries.companions,
        "notes": queries.notes,
        "shared": queries.shared,
    }
    return replace(fingerprint, queries=Queries(**(parts | change)))


def _without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}
