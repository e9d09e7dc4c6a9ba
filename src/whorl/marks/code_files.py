"""Files of user codes: one safetensors file, secret, with one JSON document."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from whorl.attest.draw import Draw
from whorl.detection.codes import BlockCode, Origin, TardosCode
from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints.parts import Document, Name, Text
from whorl.marks.user_codes import MOST_COLLUDERS, MOST_USERS, STREAM, Codes, commitment, length_of, tardos_plan
from whorl.storage import digest_tensors, one_line, read_tensors, write_tensors

__all__ = ["KEY", "read_codes", "write_codes"]

KEY: Final = "whorl-codes"

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Document(Document):
    format: Literal[1] = 1
    model: Name
    users: Annotated[list[Name], Field(min_length=1, max_length=MOST_USERS)]
    layers: Annotated[list[Name], Field(min_length=1, max_length=1000)]
    data: Text
    code: Literal["tardos", "block"]
    colluders: Annotated[int, Field(ge=1, le=MOST_COLLUDERS)]
    error: Annotated[float, Field(gt=0, lt=1)]
    strength: Annotated[float, Field(gt=0, le=1e6)]
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    draws: Annotated[int, Field(ge=0, le=1 << 31)]
    transcript: dict[str, Any] | None
    deal: Annotated[list[int], Field(max_length=31)] | None
    tensors: Annotated[dict[Name, Digest], Field(max_length=3)]


def write_codes(codes: Codes, path: str | Path) -> None:
    """Write codes as one safetensors file. It is secret: whoever has it can frame or free anybody."""
    tensors = {"projection": codes.projection}
    code = codes.code
    if isinstance(code, TardosCode):
        tensors |= {"levels": torch.from_numpy(code.levels), "rows": torch.from_numpy(code.rows)}  # pyright: ignore[reportUnknownMemberType]
    document = _Document(
        model=codes.model,
        users=list(codes.users),
        layers=list(codes.layers),
        data=codes.data,
        code=codes.plan,
        colluders=codes.colluders,
        error=codes.error,
        strength=codes.strength,
        epochs=codes.epochs,
        learning_rate=codes.learning_rate,
        draws=code.origin.draws if code is not None else 0,
        transcript=code.origin.proof.document() if code is not None and code.origin.proof is not None else None,
        deal=list(code.deal) if isinstance(code, BlockCode) else None,
        tensors={name: digest_tensors({"": value}) for name, value in tensors.items()},
    )
    write_tensors(path, tensors, {KEY: document.model_dump_json()})


def read_codes(path: str | Path) -> Codes:
    """Read codes. Raises `InvalidFile` where the file holds none, was changed, or holds rows that are no code."""
    tensors, metadata = read_tensors(path)
    try:
        document = _Document.model_validate_json(metadata[KEY])
        if {name: digest_tensors({"": value}) for name, value in tensors.items()} != document.tensors:
            raise ValueError("its tensors were changed after they were written")
        return _assembled(document, tensors)
    except KeyError:
        raise InvalidFile(f"{path} holds no codes of users; make some: whorl codes make") from None
    except (ValidationError, ValueError, json.JSONDecodeError, UsageError) as error:
        raise InvalidFile(f"{path} holds no sound codes of users: {one_line(error)}") from None


def _assembled(document: _Document, tensors: dict[str, Tensor]) -> Codes:
    projection = tensors["projection"]
    if projection.dtype != torch.float32 or projection.ndim != 2 or not bool(projection.isfinite().all()):
        raise ValueError("its projection is no finite float32 matrix")
    codes = Codes(
        document.model,
        tuple(document.users),
        tuple(document.layers),
        projection,
        document.data,
        document.code,
        document.colluders,
        document.error,
        document.strength,
        document.epochs,
        document.learning_rate,
    )
    if len(set(codes.users)) != len(codes.users):
        raise ValueError("a user stands in it twice")
    if len(projection) != length_of(codes.plan, len(codes.users), codes.colluders, codes.error):
        raise ValueError("its projection has another number of positions than its plan")
    if not document.draws:
        return codes
    proof = Draw.read(document.transcript) if document.transcript is not None else None
    origin = Origin(document.draws, proof, commitment(codes), STREAM)
    if codes.plan == "block":
        return replace(codes, code=BlockCode(len(projection), tuple(document.deal or ()), origin))
    levels, rows = tensors["levels"], tensors["rows"]
    if levels.dtype != torch.int64 or rows.dtype != torch.uint8:
        raise ValueError("its levels are no int64, or its rows no bytes")
    return replace(codes, code=TardosCode(tardos_plan(codes), levels.numpy(), rows.numpy(), origin))  # pyright: ignore[reportUnknownMemberType]
