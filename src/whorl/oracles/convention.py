"""How a model wants its pictures and what its output means, so that oracles all take [0, 1] NCHW and answer alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from whorl.errors import UsageError
from whorl.types import Access

__all__ = ["GRANTS", "InputConvention", "Output", "lower"]

Output = Literal["logits", "probabilities", "labels"]
GRANTS: dict[Output, Access] = {
    "logits": Access.LOGITS,
    "probabilities": Access.PROBABILITIES,
    "labels": Access.LABELS,
}


@dataclass(frozen=True)
class InputConvention:
    """From float32 NCHW pictures in [0, 1] to what a model was trained on. Normalisation belongs to the model.

    Pictures are first stretched to ``range``; then ``mean`` is subtracted and ``std`` divides, per channel in the order
    of the pictures (red first), or per feature where a picture is a row, in units of ``range``; a feature of a row that
    is a whole number but for float32's rounding becomes one, as models may look it up. Then the channels are put in the
    order of ``channels``, and the axes in that of ``layout``. A ``range`` of None is [0, 1] unless the model says what
    it is.
    """

    range: tuple[float, float] | None = None
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: Literal["RGB", "BGR"] = "RGB"

    @property
    def bounds(self) -> tuple[float, float]:
        """What black and white are to the model."""
        return self.range or (0.0, 1.0)

    def adapter(self, input_shape: tuple[int, int, int], dtype: torch.dtype = torch.float32) -> nn.Module:
        """A module that maps pictures ``[n, c, h, w]`` in [0, 1] to the model's own input in ``dtype``; differentiable.

        Raises:
            UsageError: mean, std or BGR do not fit the channels, std is not positive, or the range is empty.
        """
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, input_shape[0]) and (1, 1, len(values)) != input_shape:
                raise UsageError(f"input.{key} has {len(values)} numbers; the model takes {list(input_shape)}")
        if any(value <= 0 for value in self.std):
            raise UsageError(f"input.std must be above 0; it is {list(self.std)}")
        if not self.bounds[0] < self.bounds[1]:
            raise UsageError(f"input.range must be [low, high] with low < high; it is {list(self.bounds)}")
        if self.layout not in ("NCHW", "NHWC"):
            raise UsageError(f"input.layout must be NCHW or NHWC; it is {self.layout!r}")
        if self.channels not in ("RGB", "BGR"):
            raise UsageError(f"input.channels must be RGB or BGR; it is {self.channels!r}")
        if self.channels == "BGR" and input_shape[0] != 3:
            raise UsageError(f"input.channels BGR needs pictures of 3 channels; these have {input_shape[0]}")
        plain = replace(self, range=None) == InputConvention() and self.bounds == (0, 1)
        plain = plain and dtype is torch.float32
        return nn.Identity() if plain else _Adapter(self, row=input_shape[:2] == (1, 1), dtype=dtype)


class _Adapter(nn.Module):
    scale: Tensor
    shift: Tensor

    def __init__(self, convention: InputConvention, *, row: bool, dtype: torch.dtype) -> None:
        super().__init__()
        low, high = convention.bounds
        mean = torch.tensor(convention.mean or (0.0,), dtype=torch.float64)
        std = torch.tensor(convention.std or (1.0,), dtype=torch.float64)
        shape = (1, 1, -1) if row else (-1, 1, 1)
        # One affine map of the picture, worked out in float64: two roundings fewer, and half of the memory traffic.
        self.register_buffer("scale", ((high - low) / std).to(dtype).view(shape))
        self.register_buffer("shift", ((low - mean) / std).to(dtype).view(shape))
        self.near: Tensor | None = None  # how far rounding takes a number, where a row is brought back to whole ones
        if row and convention.std:
            self.near = (2.0**-22 * (self.scale.abs() + self.shift.abs())).clamp_max(1 / 16)
        self.last = convention.layout == "NHWC"
        self.swapped = convention.channels == "BGR"

    def forward(self, inputs: Tensor) -> Tensor:
        adapted = inputs * self.scale + self.shift
        if self.near is not None:
            beside = (adapted.round() - adapted).detach()
            adapted = adapted + beside.where(beside.abs() <= self.near, 0)
        adapted = adapted.flip(1) if self.swapped else adapted
        return adapted.permute(0, 2, 3, 1) if self.last else adapted


def lower(answers: Tensor, output: Output, access: Access) -> Tensor:
    """A model's output as answers at ``access``, which must not exceed what the output grants.

    Shape:
        answers: ``[m]`` for labels, else ``[m, classes]``. Returns what `Oracle._stream` must yield.
    """
    if output == "labels":
        return answers.to(torch.int64).flatten()
    if access is Access.LABELS:
        # A row with NaN has no class, though argmax would name one.
        return answers.argmax(1).where(answers.isfinite().all(1), -1) if answers.ndim == 2 else answers
    if output == "logits" and access is Access.PROBABILITIES and answers.ndim == 2:
        return answers.float().softmax(1)
    return answers.float()
