"""Fingerprint files: safetensors with one JSON document under the metadata key ``whorl``.

A file of any released format stays readable (``tests/golden`` holds one of each); what is written has format 2.
What a scheme promises of its own tensors is checked by `whorl.schemes.opening`, which knows the schemes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NoReturn, cast

from pydantic import ValidationError
from torch import Tensor

from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints import first, second
from whorl.storage import canonical_json, one_line, read_tensors, write_tensors
from whorl.types import Fingerprint

__all__ = ["read_fingerprint", "write_fingerprint"]

FORMATS: Final = {1: first.assemble, 2: second.assemble}
MAX_DOCUMENT: Final = 16 << 20


def write_fingerprint(fingerprint: Fingerprint, path: str | Path) -> None:
    """Write a fingerprint as one safetensors file of format 2.

    Raises:
        UsageError: the fingerprint breaks the format, so that it could not be read again; or it was read from a file
            of format 1, which says too little for format 2: calibrate it again.
    """
    if fingerprint.format == 1:
        raise UsageError(
            "this fingerprint has format 1, which says nothing of its null's models; make it one of format 2 by "
            "calibrating it again. Type: whorl calibrate"
        )
    try:
        document, tensors = second.document_of(fingerprint)
        text = canonical_json(document).decode()
        if len(text) > MAX_DOCUMENT:
            raise ValueError(f"its document has {len(text):,} characters; at most {MAX_DOCUMENT:,} are read")
        left = dict(tensors)
        second.assemble(left, text)
        _refuse_unknown(left)
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
        text = metadata["whorl"]
        if len(text) > MAX_DOCUMENT:
            raise ValueError(f"its document has {len(text):,} characters; at most {MAX_DOCUMENT:,} are read")
        fingerprint = FORMATS[_format(text)](tensors, text)
        _refuse_unknown(tensors)
        return fingerprint
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{path} is not a sound fingerprint: {_reason(error)}") from None


def _refuse_unknown(left: Mapping[str, Tensor]) -> None:
    """What no part of a format took belongs to none."""
    if left:
        raise ValueError(f"it holds an unknown tensor {min(left)!r}")


def _format(text: str) -> int:
    """The format that a document states."""
    found: Any = json.loads(text, parse_constant=_refuse_constant)
    number = cast(dict[str, Any], found).get("format") if isinstance(found, dict) else None
    if type(number) is not int or number < 1:
        raise ValueError(f"its document states the format {str(number)[:40]}; there are 1 to {max(FORMATS)}")
    if number > max(FORMATS):
        writer = re.search(r'"whorl":\s*"(\d[\w.+]{0,30})"', text)
        needed = f'"whorl>={writer.group(1)}"' if writer else "whorl"
        raise ValueError(
            f"it has format {number}, and whorl {version('whorl')} reads 1 to {max(FORMATS)}. "
            f"Type: pip install --upgrade {needed}"
        )
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in found["loc"])
        return one_line(ValueError(f"{place or 'document'}: {found['msg']}"))
    return one_line(error)
