"""The file ``model.toml``: what a model is, where it lies, and how it wants to be asked.

.. code-block:: toml

    kind = "torch"                    # torch, onnx, skops or http
    path = "weights.safetensors"      # relative to this file
    architecture = "resnet20"         # torch only; a name of whorl's, timm:NAME, or module:callable
    classes = 10
    task = "classification"           # or regression, generation; then classes counts the numbers that it gives
    output = "logits"                 # what a classifier itself gives: logits, probabilities or labels
    output_name = "logits"            # onnx only; which of several outputs is the answer
    first_label = 0                   # number of the first class where labels are given; 1 for 1..classes
    access = "labels"                 # grant no more than this

    [input]
    shape = [3, 32, 32]               # channels, height, width
    range = [0, 1]                    # what black and white are to the model
    layout = "NCHW"
    mean = [0.49, 0.48, 0.45]         # in units of range
    std = [0.2, 0.2, 0.2]
    channels = "RGB"                  # or BGR; mean and std are red first either way
    units = "rows(loans.csv)"         # in the place of range, mean and std: the data whose columns' own units it takes

An endpoint has ``kind = "http"``, ``url`` and a table ``[http]`` with the fields of `whorl.oracles.http.HttpSettings`.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from whorl.data import SOURCES
from whorl.errors import InvalidFile, UsageError
from whorl.oracles.convention import InputConvention, Output
from whorl.storage import check_size, one_line
from whorl.types import Access, Task

__all__ = ["InputDescription", "ModelDescription", "describe", "read_description"]

MAX_BYTES: Final = 1 << 20
MAX_NUMBERS: Final = 1 << 24  # of one picture: three channels of 2,364 x 2,364
Side = Annotated[int, Field(ge=1, le=16_384)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=4096)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class InputDescription(_Table):
    """The pictures that a model takes; ``shape`` is (channels, height, width) whatever the layout."""

    shape: tuple[Side, Side, Side] | None = None
    range: tuple[Number, Number] | None = None
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    mean: Annotated[tuple[Number, ...], Field(max_length=16_384)] = ()
    std: Annotated[tuple[Number, ...], Field(max_length=16_384)] = ()
    channels: Literal["RGB", "BGR"] = "RGB"
    units: Text | None = None

    @model_validator(mode="after")
    def _sized(self) -> InputDescription:
        if self.shape is not None and math.prod(self.shape) > MAX_NUMBERS:
            raise ValueError(f"shape {list(self.shape)} is more than {MAX_NUMBERS:,} numbers a picture")
        if self.units is not None and (self.range or self.mean or self.std):
            raise ValueError("units say what range, mean and std would: give the one or the others")
        return self

    @property
    def convention(self) -> InputConvention:
        """How pictures in [0, 1] become the model's input.

        Raises:
            UsageError: ``units`` name data without units of their own, or a file that is not there.
        """
        mean, std = self.mean, self.std
        if self.units is not None:
            mean, std = _affine(self.units)
        return InputConvention(self.range, self.layout, mean, std, self.channels)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of the data that ``units`` name, in their order; empty without them."""
        return () if self.units is None else SOURCES.make(self.units).load("test").features


def _affine(units: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and std that bring rows of [0, 1] back to the units of the data that ``units`` names."""
    bounds = SOURCES.make(units).units()
    if bounds is None:
        raise UsageError(f"{units} was not scaled from columns; units are those of rows(FILE) and of tables like wine")
    low, high = bounds
    std = 1 / (high - low).where(high > low, 1)
    return tuple((-low * std).tolist()), tuple(std.tolist())


class ModelDescription(_Table):
    """A model as ``model.toml`` or the command line describes it. ``http`` is checked when the oracle is made."""

    kind: Literal["torch", "onnx", "skops", "http"]
    path: Text | None = None
    url: Text | None = None
    architecture: Text | None = None
    classes: Annotated[int, Field(ge=1, le=10**6)] | None = None
    class_names: Annotated[tuple[Text, ...], Field(max_length=10**6)] = ()
    input: InputDescription = InputDescription()
    task: Task | None = None
    output: Output | None = None
    output_name: Text | None = None
    first_label: Annotated[int, Field(ge=0, le=10**6)] = 0
    access: Literal["labels", "probabilities", "logits", "features", "gradients", "weights"] | None = None
    http: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_model(self) -> ModelDescription:
        if self.kind == "http" and (self.url is None or self.path is not None):
            raise ValueError('kind "http" needs url, and no path')
        if self.kind != "http" and (self.path is None or self.url is not None or self.http):
            raise ValueError(f'kind "{self.kind}" needs path, and neither url nor a table [http]')
        if self.kind != "torch" and self.architecture is not None:
            raise ValueError(f'architecture is for kind "torch"; this is "{self.kind}"')
        if self.kind != "onnx" and self.output_name is not None:
            raise ValueError(f'output_name is for kind "onnx", and for an endpoint in [http]; this is "{self.kind}"')
        if self.kind not in ("onnx", "http") and self.first_label:
            raise ValueError(f'first_label is for kinds "onnx" and "http"; this is "{self.kind}"')
        if self.kind != "torch" and self.classes == 1 and not self.numbers:
            raise ValueError("classes: the number should be greater than or equal to 2")
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError("class_names names a class twice")
        if self.class_names and self.classes not in (None, len(self.class_names)):
            raise ValueError(f"classes is {self.classes}, and class_names lists {len(self.class_names)}")
        return self

    @model_validator(mode="after")
    def _one_task(self) -> ModelDescription:
        if self.numbers and self.kind == "skops":
            raise ValueError(f'task {self.task} is for kinds "torch", "onnx" and "http"; this is "{self.kind}"')
        if self.numbers and (self.output not in (None, "logits") or self.class_names or self.first_label):
            raise ValueError(f"task {self.task} has no classes: leave output, class_names and first_label out")
        return self

    @property
    def class_count(self) -> int | None:
        """Number of classes, where the description says it."""
        return self.classes or len(self.class_names) or None

    @property
    def numbers(self) -> bool:
        """Whether the model gives numbers that are no scores of classes."""
        return self.task not in (None, "classification")

    @property
    def granted(self) -> Access | None:
        """The cap on access."""
        return None if self.access is None else Access[self.access.upper()]


def describe(values: Mapping[str, Any]) -> ModelDescription:
    """A checked description. Raises `UsageError` that names the first wrong key and what it must be."""
    try:
        # Through JSON, so that strict checking takes lists for tuples but no text for numbers.
        return ModelDescription.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            table = InputDescription if place.startswith("input.") else ModelDescription
            raise UsageError(f"{place} is not known. Known: {', '.join(table.model_fields)}") from None
        message = one_line(ValueError(first["msg"].removeprefix("Value error, ")))
        given = f" (given: {one_line(ValueError(repr(first['input'])), 60)})"
        raise UsageError(f"{place}: {message}{given}" if place else message) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"this description can't be read: {one_line(error)}") from None


def read_description(path: str | Path) -> ModelDescription:
    """Read ``model.toml``; a relative path in it is taken from the file's own folder.

    Raises:
        UsageError: no such file.
        InvalidFile: not TOML, or a key that is unknown, missing or wrong, with what is needed.
    """
    path = Path(path)
    check_size(path, MAX_BYTES)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{path} is not TOML: {one_line(error)}") from None
    try:
        description = describe(values)
    except UsageError as error:
        raise InvalidFile(f"{path}: {error}") from None
    if description.path is None:
        return description
    return description.model_copy(update={"path": str(path.parent / description.path)})
