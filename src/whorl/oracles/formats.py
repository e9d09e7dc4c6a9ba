"""How a server wants its pictures and what it answers with, whichever protocol carries them.

Whatever a server says is taken for hostile: counts, shapes, types, ranges and names are checked, and a mistake ends in
one `OracleError` line that the caller completes with the address.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, Final, NoReturn

import torch
from PIL import Image
from torch import Tensor

from whorl.errors import OracleError, UsageError
from whorl.oracles.convention import InputConvention
from whorl.types import Access

__all__ = ["AnswerFormat", "InputFormat", "describe", "dicts", "member", "parse_json", "png", "shorten"]

_AXES: Final = 4  # of size 1 around a row, as in [n, classes, 1, 1]
_LABELS: Final = ("label", "class", "name", "index")
_SCORES: Final = ("score", "probability", "confidence")
# Triton's classification extension: score, index and, where the model has them, name.
_TRITON: Final = re.compile(r"(-?\d{1,40}(?:\.\d{1,60})?(?:e[-+]?\d{1,3})?):(\d{1,9})(?::.*)?", re.I | re.S)
_SLACK: Final = 1e-4  # how far outside [0, 1] a probability may be rounded


@dataclass(frozen=True)
class InputFormat:
    """How a server wants its pictures: the model's convention, and ``flat`` for one row of numbers a picture."""

    convention: InputConvention = field(default_factory=InputConvention)
    flat: bool = False

    def encode(self, inputs: Tensor) -> Tensor:
        """Pictures ``[n, c, h, w]`` in [0, 1] as the float32 tensor that the server takes.

        Raises:
            UsageError: the convention does not fit the pictures, or one of them is NaN or infinite.
        """
        channels, height, width = inputs.shape[1:]
        values = self.convention.adapter((channels, height, width))(inputs.detach().to("cpu", torch.float32))
        if not bool(values.isfinite().all()):
            raise UsageError("a query is NaN or infinite; pictures in [0, 1] are needed")
        return (values.flatten(1) if self.flat else values).contiguous()


@dataclass(frozen=True)
class AnswerFormat:
    """What a server answers with: labels, probabilities or logits (``access``), and its names of the classes.

    A row of scores is one number a class, one number for two classes, or a list of the best classes: objects with a
    label and a score, or Triton's texts ``score:index:name``. Classes that it leaves out get the probability 0.
    ``first_label`` is the number of the first class where labels are numbers.
    """

    access: Access
    classes: int
    class_names: tuple[str, ...] = ()
    first_label: int = 0

    def __post_init__(self) -> None:
        if self.access > Access.LOGITS:
            raise UsageError(f"an endpoint grants LABELS, PROBABILITIES or LOGITS, not {self.access.name}")
        if self.class_names and not len(set(self.class_names)) == len(self.class_names) == self.classes:
            raise UsageError(
                f"class names must be {self.classes} different names, one a class; {len(self.class_names)} are given"
            )

    def decode(self, values: object, count: int) -> Tensor:
        """Labels ``[count]`` int64 or rows ``[count, classes]`` float32 from nested lists."""
        if not isinstance(values, list):
            raise OracleError(f"the answer for {count} queries is {describe(values)}; a list is needed")
        if len(values) != count:
            raise OracleError(f"there are {len(values)} answers to {count} queries")
        if self.access is Access.LABELS:
            return torch.tensor([self._best(value) for value in values], dtype=torch.int64)
        return self._rows([self._row(_squeezed(value)) for value in values])

    def listed(self, entries: list[tuple[object, object]]) -> list[Any]:
        """A row of one number a class from pairs of a label and a score."""
        if self.access > Access.PROBABILITIES and len(entries) < self.classes:
            raise OracleError(f"logits of {len(entries)} classes are listed; {self.classes} are needed")
        row: list[Any] = [0.0] * self.classes
        seen: set[int] = set()
        for name, score in entries:
            label = self.label(name)
            if label in seen:
                raise OracleError(f"the class {shorten(name)!r} is listed twice")
            seen.add(label)
            row[label] = score
        if not seen:
            raise OracleError("the answer lists no class")
        return row

    def _best(self, value: object) -> int:
        """The label that ``value`` is, or the best of those that it lists."""
        entries = [] if value in self.class_names else self._entries(value if isinstance(value, list) else [value])
        if not entries:
            return self.label(value)
        if wrong := [score for _, score in entries if type(score) not in (int, float)]:
            raise OracleError(f"{describe(wrong[0])} came where a number is needed")
        return self.label(max(entries, key=lambda entry: entry[1])[0])

    def _entries(self, value: object) -> list[tuple[Any, Any]]:
        """Labels and scores where ``value`` lists classes; empty where it is anything else."""
        if not isinstance(value, list) or not value:
            return []
        if all(isinstance(each, dict) for each in value):
            return [(_field(each, _LABELS), _field(each, _SCORES)) for each in value]
        found = [_TRITON.fullmatch(each) if isinstance(each, str) else None for each in value]
        # Triton counts from 0, whatever the model's own labels begin at.
        texts = [(int(each[2]) + self.first_label, float(each[1])) for each in found if each]
        return texts if len(texts) == len(value) else []

    def _row(self, value: Any) -> Any:
        if entries := self._entries(value):
            return self.listed(entries)
        if self.classes <= 2 and isinstance(value, int | float) and not isinstance(value, bool):
            value = [value]
        if self.classes == 2 and isinstance(value, list) and len(value) == 1 and type(value[0]) in (int, float):
            return [0.0 if self.access is Access.LOGITS else 1 - value[0], value[0]]
        return value

    def label(self, value: object) -> int:
        """The class that a number or a name stands for."""
        if isinstance(value, str):
            return self._named(value)
        if isinstance(value, list):
            raise OracleError("a row of scores came where a label is needed; declare probabilities or logits")
        if not isinstance(value, int | float) or isinstance(value, bool) or value != value // 1:
            raise OracleError(f"{describe(value)} came where a label is needed")
        place = int(value) - self.first_label
        if not 0 <= place < self.classes:
            first, last = self.first_label, self.first_label + self.classes - 1
            begins = (
                "1, set first_label=1" if (first, value) == (0, self.classes) else "another number, set first_label"
            )
            hint = f". If its labels begin at {begins}" if value >= self.classes else ""
            raise OracleError(f"the label {shorten(value, 20)} is outside {first}..{last}{hint}")
        return place

    def _named(self, name: str) -> int:
        if not self.class_names:
            digits = name.removeprefix("LABEL_")
            if name != digits and digits.isascii() and digits.isdigit() and len(digits) < 10:
                return replace(self, first_label=0).label(int(digits))
            raise OracleError(
                f"the class name {shorten(name)!r} is unknown; give the class names in the model's own order, as "
                "class_names=[...] (in any order where a lineup matches labels)"
            )
        if name not in self.class_names:
            raise OracleError(f"the class name {shorten(name)!r} is not among the {self.classes} given")
        return self.class_names.index(name)

    def _rows(self, rows: list[Any]) -> Tensor:
        for row in rows:
            if not isinstance(row, list):
                named = f" with {_keys(row)}" if isinstance(row, dict) else ""
                raise OracleError(f"{describe(row)}{named} came where a row of {self.classes} numbers is needed")
            if len(row) != self.classes:
                raise OracleError(f"a row has {len(row)} numbers; {self.classes}, one a class, are needed")
            if wrong := [value for value in row if type(value) not in (int, float)]:
                raise OracleError(f"{describe(wrong[0])} came where a number is needed")
        try:
            result = torch.tensor(rows, dtype=torch.float64).to(torch.float32)
        except (OverflowError, RuntimeError, ValueError):
            raise OracleError("a number is too large") from None
        return self._checked(result.reshape(-1, self.classes))

    def _checked(self, rows: Tensor) -> Tensor:
        if not bool(rows.isfinite().all()):
            raise OracleError("an answer is NaN or infinite")
        outside = (rows < -_SLACK) | (rows > 1 + _SLACK)
        if self.access is Access.PROBABILITIES and bool(outside.any()):
            raise OracleError(f"{rows[outside][0]:g} is no probability; if these are logits, declare logits")
        return rows


def _squeezed(value: Any) -> Any:
    """A row without axes of size 1 beside its own: ``[[[1, 2]]]`` and ``[[[1]], [[2]]]`` are ``[1, 2]``."""
    for _ in range(_AXES):
        if not (isinstance(value, list) and value and all(isinstance(each, list) for each in value)):
            break
        if len(value) == 1:
            value = value[0]
        elif all(len(each) == 1 for each in value):
            value = [each[0] for each in value]
        else:
            break
    return value


def _field(entry: dict[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        if name in entry:
            return entry[name]
    raise OracleError(f"an entry has no {names[0]!r} but {_keys(entry)}")


def _keys(entry: dict[str, Any]) -> str:
    return ", ".join(shorten(key, 20) for key in list(entry)[:5]) or "nothing"


def parse_json(body: bytes | bytearray | memoryview) -> Any:
    """The document in ``body``. Raises `OracleError` for anything but JSON with finite numbers."""
    body = bytes(body) if isinstance(body, memoryview) else body
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise OracleError("the answer is nested too deeply") from None
    except ValueError:
        start = shorten(body[:400].decode(errors="replace"), 60)
        raise OracleError(
            f"the answer is not JSON: it starts with {start!r}" if body else "the answer is empty"
        ) from None


def member(document: object, name: str) -> Any:
    """A part of an answer. Raises `OracleError` that quotes what the server says where there is none."""
    if not isinstance(document, dict):
        raise OracleError(f"the answer is {describe(document)}; an object with {name!r} is needed")
    if name not in document:
        said = document.get("error")
        raise OracleError(f"the answer has no {name!r} but " + (f"says: {shorten(said)}" if said else _keys(document)))
    return document[name]


def dicts(values: object, what: str) -> list[dict[str, Any]]:
    """The objects of a list. Raises `OracleError` for anything else."""
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise OracleError(f"the {what} must be a list of objects")
    return values


def png(picture: Tensor) -> bytes:
    """One picture ``[c, h, w]`` in [0, 1] with 1 or 3 channels, as PNG."""
    if picture.shape[0] not in (1, 3):
        raise UsageError(f"a PNG has 1 or 3 channels; these pictures have {picture.shape[0]}")
    levels = (picture.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels).save(stream, "png", compress_level=1)
    return stream.getvalue()


def shorten(value: object, limit: int = 80) -> str:
    """Foreign text as one printable line of at most ``limit`` characters."""
    text = " ".join(str(value)[: 4 * limit].split())
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def describe(value: object) -> str:
    """What a JSON value is, in words, or the number itself."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value)) or shorten(value, 40)


def _refuse_constant(name: str) -> NoReturn:
    raise OracleError(f"an answer is {name}")
