"""What one input of a model is: pictures, and whatever else a space is written for.

A space checks inputs, gives each the bytes that it is known by, and describes itself as an expression, so that a
fingerprint file names it and reads it back. All else treats inputs as rows of a tensor: ``[n, *shape]`` where each
query asks one input, ``[n, m, *shape]`` where it asks m together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, cast, final

import torch
from torch import Tensor

from whorl.catalog import Catalog
from whorl.errors import UsageError

__all__ = ["SPACES", "InputSpace", "Pictures", "named_space"]

MOST_NUMBERS = 1 << 28  # in one input; a picture of 9,000 x 9,000 pixels
MOST_AXES = 3


class InputSpace(ABC):
    """What one input is. Subclasses are frozen dataclasses whose fields an expression may give.

    An author writes ``shape`` and ``fault``; `SPACES` holds the name.
    """

    name: ClassVar[str]
    dtype: ClassVar[torch.dtype] = torch.float32

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one input as a tensor."""

    @abstractmethod
    def fault(self, inputs: Tensor) -> str | None:
        """Why the values of ``inputs`` ``[n, *shape]`` are no inputs; None where they are."""

    def as_inputs(self, stored: Tensor) -> Tensor:
        """Inputs from the form in which a data set may keep them in memory."""
        return stored

    @final
    def check(self, inputs: Tensor) -> None:
        """Raise `UsageError` unless ``inputs`` are ``[n, *shape]`` or ``[n, m, *shape]`` of this space."""
        axes = inputs.ndim - len(self.shape)
        if axes not in (1, 2) or tuple(inputs.shape[axes:]) != self.shape or inputs.dtype != self.dtype:
            kind = str(self.dtype).removeprefix("torch.")
            seen = f"{str(inputs.dtype).removeprefix('torch.')} {list(inputs.shape)}"
            sizes = ", ".join(map(str, self.shape))
            raise UsageError(f"{self} takes {kind} [n, {sizes}] or [n, m, {sizes}]; these are {seen}")
        if inputs.numel() and (told := self.fault(inputs.flatten(0, axes - 1))):
            raise UsageError(f"inputs of {self}: {told}")

    @final
    def flat(self, inputs: Tensor) -> Tensor:
        """``[n, *shape]`` or ``[n, m, *shape]`` as ``[n * m, *shape]``."""
        return inputs.flatten(0, 1) if self.each(inputs) is not None else inputs

    @final
    def each(self, inputs: Tensor) -> int | None:
        """The m of ``[n, m, *shape]``; None for ``[n, *shape]``."""
        return int(inputs.shape[1]) if inputs.ndim == len(self.shape) + 2 else None

    @final
    def encode(self, inputs: Tensor) -> Iterator[bytes]:
        """The bytes that each input ``[n, *shape]`` is known by, little-endian."""
        for row in inputs.detach().to("cpu", self.dtype):
            yield row.contiguous().numpy().tobytes()

    @final
    def __str__(self) -> str:
        return f"{self.name} {list(self.shape)}"

    @final
    @property
    def expression(self) -> str:
        """This space as an expression that `named_space` reads."""
        from whorl.expressions import Call

        return str(SPACES.bind(Call(self.name, kwargs=tuple(vars(self).items()))))


@dataclass(frozen=True)
class Pictures(InputSpace):
    """Float32 pictures ``[channels, height, width]`` in [0, 1]. A row of features is a picture of height 1."""

    name: ClassVar[str] = "pictures"
    size: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.size) != 3:
            raise UsageError(f"a picture has three sizes, [channels, height, width]; these are {list(self.size)}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, height, width)."""
        return self.size

    def fault(self, inputs: Tensor) -> str | None:
        """Where they leave [0, 1]."""
        least, most = float(inputs.min()), float(inputs.max())  # NaN comes out of both
        return None if least >= 0 and most <= 1 else f"they span {least:g}..{most:g}; 0..1 is needed"

    def as_inputs(self, stored: Tensor) -> Tensor:
        """Bytes in 0..255 become float32 in [0, 1]."""
        return stored.to(torch.float32).div_(255) if stored.dtype == torch.uint8 else stored


SPACES: Catalog[InputSpace] = Catalog("spaces", {"pictures": "whorl.spaces:Pictures"})


def named_space(expression: str) -> InputSpace:
    """The space of an expression. Raises `UsageError` for an unknown one, and where one input would be too large."""
    space = SPACES.make(expression)
    shape = cast(tuple[object, ...], space.shape)
    numbers = 1
    for size in shape:
        if type(size) is not int or size < 1:
            raise UsageError(f"{expression}: the sizes of an input are whole numbers of at least 1")
        numbers *= size
    if not 1 <= len(shape) <= MOST_AXES or numbers > MOST_NUMBERS:
        raise UsageError(f"{expression}: an input has one to {MOST_AXES} axes and at most {MOST_NUMBERS:,} numbers")
    return space
