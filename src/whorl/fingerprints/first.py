"""Format 1, of whorl 0.1: read for ever, written no more.

Tensors ``queries/inputs``, ``queries/companions/<name>``, ``queries/shared/<name>``, ``reference/values`` and, once
calibrated, ``null/similarities``; all else is one JSON document. Inputs are pictures. Nothing ties the null to the
queries, and nothing is known of its models but their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, JsonValue
from torch import Tensor

from whorl.expressions import parse
from whorl.fingerprints.parts import Count, Document, Finite, Name, Text, numbers_of, queries_of, take
from whorl.spaces import Pictures
from whorl.types import Calibration, Fingerprint, Null, NullModel, Representation, Task

__all__ = ["assemble"]


class _Calibration(Document):
    pool: Text
    names: Annotated[tuple[Text, ...], Field(max_length=10**6)]
    siblings: Count = 0
    derived: Annotated[dict[Name, tuple[Finite, ...]], Field(max_length=10_000)] = Field(default_factory=dict)


class _Fingerprint(Document):
    format: Literal[1]
    scheme: Annotated[str, Field(min_length=1, max_length=4096)]
    victim: Text
    data: Text = ""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] = 0
    classes: Count = 0
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    notes: dict[Name, JsonValue] = Field(default_factory=dict)
    calibration: _Calibration | None = None
    versions: Annotated[dict[Name, Name], Field(max_length=100)] = Field(default_factory=dict)
    task: Task = "classification"
    pool: Annotated[tuple[Name, ...], Field(max_length=10_000)] = ()


def assemble(tensors: dict[str, Tensor], text: str) -> Fingerprint:
    """Check every promise of the format and build the fingerprint. Raises ValueError with the first broken one."""
    document = _Fingerprint.model_validate_json(text)
    parse(document.scheme)
    inputs = tensors.get("queries/inputs")
    sizes = tuple(map(int, inputs.shape[-3:])) if inputs is not None and inputs.ndim in (4, 5) else (1, 1, 1)
    queries = queries_of(tensors, Pictures(sizes), document.notes)
    reference = take(tensors, "reference/values")
    calibration = _calibration(tensors, document.calibration)
    return Fingerprint(
        scheme=document.scheme,
        victim=document.victim,
        queries=queries,
        reference=Representation(reference),
        data=document.data,
        seed=document.seed,
        classes=document.classes,
        seconds=document.seconds,
        calibration=calibration,
        versions=document.versions,
        task=document.task,
        pool=document.pool,
        space=Pictures(sizes),
        format=1,
    )


def _calibration(tensors: dict[str, Tensor], document: _Calibration | None) -> Calibration | None:
    if document is None:
        return None
    similarities = numbers_of(tensors, "null/similarities", len(document.names))
    if document.siblings > len(document.names):
        raise ValueError(f"its null has {document.siblings} siblings among {len(document.names)} models")
    models = tuple(NullModel(name) for name in document.names)
    derived: Mapping[str, tuple[float, ...]] = document.derived
    return Calibration(Null(document.pool, models, similarities, document.siblings), derived)
