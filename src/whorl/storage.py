"""Files of plain data: tensors in safetensors, documents in JSON. Nothing here is ever executed.

Everything is written to a temporary file in the same folder and then moved into place, so that a reader never sees
half a file. Everything is read as if an enemy had written it: sizes are limited, headers and documents are checked,
and what fails ends in one line (`InvalidFile`).

A fingerprint of format 1 holds the tensors ``queries/inputs``, ``queries/companions/<name>``,
``queries/shared/<name>``, ``reference/values`` and, once calibrated, ``null/similarities``; all else is one JSON
document under the metadata key ``whorl``. A file of any released format stays readable; ``tests/golden`` holds one of
each.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors_torch
from torch import Tensor

from whorl.errors import InvalidFile, UsageError
from whorl.expressions import parse
from whorl.types import Calibration, Fingerprint, Null, Queries, Representation, Task

__all__ = [
    "check_size",
    "digest_file",
    "digest_tensors",
    "one_line",
    "read_fingerprint",
    "read_json",
    "read_metadata",
    "read_tensors",
    "replacing",
    "write_fingerprint",
    "write_json",
    "write_tensors",
]

FORMAT: Final = 1
MAX_TENSOR_BYTES: Final = 4 << 30  # a vision model of 10^9 float32 weights, or 10^6 queries of 32 x 32 pixels in uint8
MAX_JSON_BYTES: Final = 64 << 20
MAX_QUERIES: Final = 10**6


@contextmanager
def replacing(path: str | Path) -> Generator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well, and vanishes when it fails."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{os.getpid()}-{threading.get_ident()}.{target.name[-64:]}.tmp")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def check_size(path: str | Path, max_bytes: int) -> int:
    """Size of the file in bytes. Raises `UsageError` where there is none, `InvalidFile` beyond ``max_bytes``."""
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path} is a folder; a file is needed" if path.is_dir() else f"no such file: {path}")
    size = path.stat().st_size
    if size > max_bytes:
        raise InvalidFile(f"{path} holds {size:,} bytes; at most {max_bytes:,} are read")
    return size


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and text as safetensors. Tensors may share memory, be strided or lie on any device.

    With at most one key of metadata equal arguments give equal bytes (safetensors orders several keys at random).
    """
    owned = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    with replacing(path) as temporary:
        cast(Any, safetensors_torch).save_file(owned, temporary, dict(metadata))


def read_tensors(path: str | Path, *, max_bytes: int = MAX_TENSOR_BYTES) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (in memory of their own, on the CPU) and metadata of a safetensors file.

    Raises:
        UsageError: no such file.
        InvalidFile: too large, or not safetensors.
    """
    with _opened(path, max_bytes) as file:
        # Copies, because a mapped tensor changes, or kills the process, when another program rewrites the file.
        tensors: dict[str, Tensor] = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        return tensors, dict(file.metadata() or {})


def read_metadata(path: str | Path, *, max_bytes: int = MAX_TENSOR_BYTES) -> dict[str, str]:
    """Metadata of a safetensors file, whose tensors stay unread. Raises what `read_tensors` raises."""
    with _opened(path, max_bytes) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: str | Path, max_bytes: int) -> Generator[Any]:
    check_size(path, max_bytes)
    try:
        with cast(Any, safe_open(str(path), framework="pt")) as file:
            yield file
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidFile(f"{path} is not a whole safetensors file: {one_line(error)}") from None


def write_json(path: str | Path, document: Any) -> None:
    """Write a JSON document, indented. Raises `UsageError` for NaN, infinities and what JSON can't hold."""
    try:
        text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} can't be written as JSON: {one_line(error)}") from None
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The JSON document of a file. Raises `UsageError` where there is none, `InvalidFile` for what is not JSON."""
    check_size(path, max_bytes)
    try:
        return json.loads(Path(path).read_bytes(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{path} is not a JSON document: {one_line(error)}") from None


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 in hexadecimal over names, types, shapes and bytes, whatever the order, strides and device."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        # A line of JSON holds no raw newline, so no two sets of tensors give the same stream of bytes.
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode() + b"\n")
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def one_line(error: BaseException, limit: int = 300) -> str:
    """The error's message on one line without control characters: files may put anything into it."""
    text = str(error) or type(error).__name__
    return "".join(mark if mark.isprintable() else " " for mark in " ".join(text.split()))[:limit]


Text = Annotated[str, Field(max_length=4096)]
Name = Annotated[str, Field(max_length=300)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=MAX_QUERIES)]


class _Document(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _CalibrationDocument(_Document):
    pool: Text
    names: Annotated[tuple[Text, ...], Field(max_length=MAX_QUERIES)]
    siblings: Count = 0
    derived: Annotated[dict[Name, tuple[Finite, ...]], Field(max_length=10_000)] = {}


class _FingerprintDocument(_Document):
    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)]
    scheme: Annotated[str, Field(min_length=1, max_length=4096)]
    victim: Text
    data: Text = ""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] = 0
    classes: Count = 0
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    notes: dict[Name, JsonValue] = {}
    calibration: _CalibrationDocument | None = None
    versions: Annotated[dict[Name, Name], Field(max_length=100)] = {}
    task: Task = "classification"
    pool: Annotated[tuple[Name, ...], Field(max_length=10_000)] = ()


def write_fingerprint(fingerprint: Fingerprint, path: str | Path) -> None:
    """Write a fingerprint as one safetensors file of format 1; whorl's own version joins ``versions``.

    Raises:
        UsageError: the fingerprint breaks the format, so that it could not be read again.
    """
    queries = fingerprint.queries
    tensors = {"queries/inputs": queries.inputs, "reference/values": fingerprint.reference.values}
    tensors |= {f"queries/companions/{name}": values for name, values in queries.companions.items()}
    tensors |= {f"queries/shared/{name}": values for name, values in queries.shared.items()}
    document: dict[str, Any] = {
        "format": FORMAT,
        "scheme": fingerprint.scheme,
        "victim": fingerprint.victim,
        "data": fingerprint.data,
        "seed": fingerprint.seed,
        "classes": fingerprint.classes,
        "seconds": fingerprint.seconds,
        "notes": dict(queries.notes),
        "calibration": None,
        "versions": {"whorl": version("whorl"), **fingerprint.versions},
        "task": fingerprint.task,
        "pool": fingerprint.pool,
    }
    if fingerprint.calibration is not None:
        null = fingerprint.calibration.null
        tensors["null/similarities"] = torch.tensor(null.similarities, dtype=torch.float64)
        document["calibration"] = {
            "pool": null.pool,
            "names": null.names,
            "siblings": null.siblings,
            "derived": dict(fingerprint.calibration.derived),
        }
    try:
        text = json.dumps(document, sort_keys=True, allow_nan=False)
        _assemble(tensors, text)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"this fingerprint can't be written: {_reason(error)}") from None
    write_tensors(path, tensors, {"whorl": text})


def read_fingerprint(path: str | Path) -> Fingerprint:
    """Read a fingerprint of any released format.

    Raises:
        UsageError: no such file.
        InvalidFile: not a fingerprint, damaged, untrue, or written by a newer whorl.
    """
    tensors, metadata = read_tensors(path)
    if "whorl" not in metadata:
        raise InvalidFile(f"{path} is not a fingerprint: its metadata has no key 'whorl'. Make one: whorl extract")
    try:
        _refuse_newer(metadata["whorl"])
        return _assemble(tensors, metadata["whorl"])
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{path} is not a sound fingerprint: {_reason(error)}") from None


def _refuse_newer(text: str) -> None:
    found: Any = json.loads(text)
    number = cast(dict[str, Any], found).get("format") if isinstance(found, dict) else None
    if not isinstance(number, int) or number <= FORMAT:
        return
    writer = re.search(r'"whorl":\s*"(\d[\w.+]{0,30})"', text)
    needed = f'"whorl>={writer.group(1)}"' if writer else "whorl"
    raise ValueError(f"it has format {number}, and this whorl reads {FORMAT}. Type: pip install --upgrade {needed}")


def _assemble(tensors: Mapping[str, Tensor], text: str) -> Fingerprint:
    """Check every promise of format 1 and build the fingerprint. Raises ValueError with the first broken one."""
    document = _FingerprintDocument.model_validate_json(text)
    json.loads(text, parse_constant=_refuse_constant)  # notes are free JSON, where pydantic lets NaN pass
    parse(document.scheme)
    rest = dict(tensors)
    queries = _queries(rest, document.notes)
    reference = _tensor(rest, "reference/values")
    calibration = _calibration(rest, document.calibration)
    if rest:
        raise ValueError(f"it holds an unknown tensor {min(rest)!r}")
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
    )


def _queries(tensors: dict[str, Tensor], notes: Mapping[str, Any]) -> Queries:
    inputs = _tensor(tensors, "queries/inputs")
    if inputs.dtype != torch.float32 or inputs.ndim not in (4, 5) or not inputs.numel():
        seen = f"{inputs.dtype} {list(inputs.shape)}".removeprefix("torch.")
        raise ValueError(f"'queries/inputs' is {seen}; float32 [n, c, h, w] or [n, m, c, h, w] is needed")
    if len(inputs) > MAX_QUERIES:
        raise ValueError(f"it holds {len(inputs):,} queries; at most {MAX_QUERIES:,} are read")
    if float(inputs.min()) < 0 or float(inputs.max()) > 1:
        raise ValueError(f"'queries/inputs' spans {float(inputs.min()):g}..{float(inputs.max()):g}; 0..1 is needed")
    parts: dict[str, dict[str, Tensor]] = {"companions": {}, "shared": {}}
    for name in list(tensors):
        if match := re.fullmatch(r"queries/(companions|shared)/([A-Za-z_][\w.-]{0,63})", name, re.ASCII):
            value: Tensor = _tensor(tensors, name)
            parts[match.group(1)][match.group(2)] = value
            if match.group(1) == "companions" and value.shape[:1] != inputs.shape[:1]:
                raise ValueError(f"{name!r} does not count the {len(inputs)} queries on its axis 0")
    return Queries(inputs, parts["companions"], notes, parts["shared"])


def _calibration(tensors: dict[str, Tensor], document: _CalibrationDocument | None) -> Calibration | None:
    if document is None:
        return None
    similarities = _tensor(tensors, "null/similarities")
    if similarities.dtype != torch.float64 or similarities.shape != (len(document.names),):
        raise ValueError(f"'null/similarities' is not float64 [{len(document.names)}], one for each named model")
    if document.siblings > len(document.names):
        raise ValueError(f"its null has {document.siblings} siblings among {len(document.names)} models")
    values = tuple(cast(list[float], similarities.tolist()))  # pyright: ignore[reportUnknownMemberType]
    return Calibration(Null(document.pool, document.names, values, document.siblings), document.derived)


def _tensor(tensors: dict[str, Tensor], name: str) -> Tensor:
    """Take the tensor out of ``tensors``; it must be there and finite."""
    if name not in tensors:
        raise ValueError(f"it lacks the tensor {name!r}")
    value = tensors.pop(name)
    if value.is_floating_point() and not bool(value.isfinite().all()):
        raise ValueError(f"{name!r} holds NaN or an infinity")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return one_line(ValueError(f"{place or 'document'}: {first['msg']}"))
    return one_line(error)
