"""Weights that say which architecture they belong to: safetensors with a line of JSON, and nothing to execute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from whorl.errors import InvalidFile, UsageError
from whorl.expressions import parse
from whorl.nets import NETS
from whorl.nets.layout import laid_out
from whorl.nets.training import task_of
from whorl.storage import one_line, read_metadata, read_tensors, write_tensors

__all__ = ["KEY", "ModelHeader", "read_header", "read_model", "write_like", "write_model"]

KEY = "whorl-model"


Side = Annotated[int, Field(ge=1, le=10_000)]


class ModelHeader(BaseModel):
    """What a model file says of itself."""

    model_config = ConfigDict(extra="forbid")

    format: int = Field(1, ge=1, le=1)
    architecture: str = Field(max_length=1000)
    input_shape: tuple[Side, Side, Side]
    classes: int = Field(ge=1, le=100_000)


def write_model(net: nn.Module, path: Path, *, architecture: str, input_shape: tuple[int, int, int]) -> None:
    """Save a net of the catalog so that `read_model` needs nothing else.

    Parameters:
        architecture: an expression of `NETS`, such as ``resnet8(width=8)``.
        input_shape: (channels, height, width).
    """
    classes = int(getattr(net, "classes", 0))
    header = ModelHeader(format=1, architecture=architecture, input_shape=input_shape, classes=classes)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    write_tensors(path, tensors, {KEY: header.model_dump_json()})


def write_like(net: nn.Module, path: Path, output: Path) -> None:
    """Write ``net`` as the file at ``path`` was: with the architecture, where that says one of whorl's own."""
    metadata = read_metadata(path) if path.is_file() and path.suffix.lower() == ".safetensors" else {}
    output.parent.mkdir(parents=True, exist_ok=True)
    if KEY in metadata:
        header = read_header(metadata, path)
        write_model(net, output, architecture=header.architecture, input_shape=header.input_shape)
        return
    write_tensors(output, {name: each.detach().cpu().contiguous() for name, each in net.state_dict().items()}, {})


def read_header(metadata: dict[str, str], path: Path) -> ModelHeader:
    """The header among a file's metadata. Raises `InvalidFile` when it is missing or lies about its form."""
    if KEY not in metadata:
        raise InvalidFile(f"{path} does not name its architecture; give one, as in architecture='resnet8(width=8)'")
    try:
        return ModelHeader.model_validate_json(metadata[KEY])
    except (ValidationError, json.JSONDecodeError) as error:
        raise InvalidFile(f"{path} has a damaged model header: {one_line(error)}") from None


def read_model(path: Path) -> tuple[nn.Module, ModelHeader]:
    """The net of a file written by `write_model`, in evaluation mode, and its header."""
    tensors, metadata = read_tensors(path)
    header = read_header(metadata, path)
    try:
        own = parse(header.architecture).name in NETS.admitted
        with torch.random.fork_rng(devices=[]), torch.device("cpu" if own else "meta"):
            net = NETS.make(header.architecture, input_shape=header.input_shape, classes=header.classes)
        net.load_state_dict(tensors, assign=not own)
        if header.classes < 2 and task_of(header.architecture) == "classification":
            raise UsageError(f"{header.architecture} of one class")
    except UsageError as error:
        raise InvalidFile(f"{path} names an architecture that whorl cannot build: {one_line(error)}") from None
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        said = one_line(error)
        raise InvalidFile(f"{path} does not fit {one_line(ValueError(header.architecture))}: {said}") from None
    # A file may hold half precision; queries and answers are float32.
    return laid_out(net.eval().to(torch.float32)), header
