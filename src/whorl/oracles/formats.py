"""How a server wants its pictures and what it answers with, whichever protocol carries them.

Whatever a server says is taken for hostile: counts, shapes, types, ranges and names are checked, and a mistake ends in
one `OracleError` line that the caller completes with the address.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import torch
from PIL import Image
from torch import Tensor

from whorl.errors import OracleError, UsageError
from whorl.oracles.convention import InputConvention
from whorl.types import Access

__all__ = ["AnswerFormat", "InputFormat", "describe", "parse_json", "png", "shorten"]

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
    """What a server answers with: labels, probabilities or logits (``access``), and its names of the classes."""

    access: Access
    classes: int
    class_names: tuple[str, ...] = ()

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
            return torch.tensor([self.label(value) for value in values], dtype=torch.int64)
        return self._rows(values)

    def label(self, value: object) -> int:
        """The class that a number or a name stands for."""
        if isinstance(value, str):
            return self._named(value)
        if isinstance(value, list):
            raise OracleError("a row of scores came where a label is needed; declare probabilities or logits")
        if not isinstance(value, int | float) or isinstance(value, bool) or value != value // 1:
            raise OracleError(f"{describe(value)} came where a label is needed")
        if not 0 <= value < self.classes:
            raise OracleError(f"the label {shorten(value, 20)} is outside 0..{self.classes - 1}")
        return int(value)

    def _named(self, name: str) -> int:
        if not self.class_names:
            digits = name.removeprefix("LABEL_")
            if name != digits and digits.isascii() and digits.isdigit() and len(digits) < 10:
                return self.label(int(digits))
            raise OracleError(f"the class name {shorten(name)!r} is unknown; give the class names in order")
        if name not in self.class_names:
            raise OracleError(f"the class name {shorten(name)!r} is not among the {self.classes} given")
        return self.class_names.index(name)

    def _rows(self, rows: list[Any]) -> Tensor:
        for row in rows:
            if not isinstance(row, list):
                raise OracleError(f"{describe(row)} came where a row of {self.classes} numbers is needed")
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


def parse_json(body: bytes | bytearray) -> Any:
    """The document in ``body``. Raises `OracleError` for anything but JSON with finite numbers."""
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise OracleError("the answer is nested too deeply") from None
    except ValueError:
        start = shorten(body[:400].decode(errors="replace"), 60)
        raise OracleError(
            f"the answer is not JSON: it starts with {start!r}" if body else "the answer is empty"
        ) from None


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
