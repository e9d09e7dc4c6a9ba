"""What a run leaves behind: every cell, not just averages, as JSON."""

from __future__ import annotations

import json
import os
import platform
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from whorl.bench.mark_figures import MarkFigures
from whorl.errors import InvalidFile
from whorl.storage import read_json, write_whole
from whorl.suites.suite import Kind

__all__ = [
    "Cell",
    "Extraction",
    "Machine",
    "Model",
    "Refusal",
    "Result",
    "describe_machine",
    "read_result",
    "write_result",
]


MAX_BYTES = 1 << 30  # of a result as JSON: six million cells


class Machine(BaseModel):
    """Where the figures were measured, without anything that names the machine."""

    processor: str
    cores: int
    memory_gib: int
    device: str
    python: str
    versions: dict[str, str]


class Cell(BaseModel):
    """One suspect judged by one fingerprint."""

    victim: int = Field(ge=0)
    scheme: str
    suspect: str
    group: str
    kind: Kind
    similarity: float
    accuracy: float
    damaged: bool
    decision: str
    p_value: float
    spent: int
    needed: int
    """Queries after which a sequential verification of this suspect would have stopped."""
    family: str = ""
    """Family of the removal that made it; empty for an independent model."""
    seconds: float = 0.0
    """Time to ask this suspect the whole fingerprint."""


class Extraction(BaseModel):
    """One fingerprint and the calibration models' similarities to it."""

    victim: int
    scheme: str
    expression: str
    seconds: float
    notes: dict[str, float]
    null: list[float]
    known: dict[str, list[float]]
    pictures: str = ""
    """File name of the fingerprint beside the store, for pictures of its queries."""
    inputs: int = 0
    """Inputs that a suspect is asked: the queries, times the inputs of each."""
    mark: MarkFigures | None = None
    """Of a mark: what it says of models that know nothing of it; None of a scheme."""
    peak_mib: float | None = None
    """Memory that the extraction needed at its peak above what the process held before, where it can be told."""


class Refusal(BaseModel):
    """A suspect that a scheme could not be asked about: it grants too little, or does not fit."""

    victim: int
    scheme: str
    suspect: str
    group: str
    kind: Kind
    family: str
    damaged: bool
    reason: str


class Model(BaseModel):
    """One model of a suite as its card has it: how it was made, what it can do, and what it cost.

    ``role`` is victim, or the group of the suspect; ``agreement`` is the fidelity to its victim on the test part, None
    where that has other classes; ``queries`` were asked of the victim to make it. ``victim_accuracy`` is the victim's
    on the model's own task, as on corrupted pictures; None where it has other classes, and in results that do not say.
    """

    label: str
    role: str
    family: str
    recipe: str
    accuracy: float
    agreement: float | None
    damaged: bool
    queries: int
    seconds: float
    victim_accuracy: float | None = None


class Result(BaseModel):
    """A whole run of a suite."""

    model_config = ConfigDict(extra="forbid")

    format: int = Field(2, ge=1, le=2)
    suite: str
    about: str
    limit: int
    alpha: float
    budget: int
    columns: list[str]
    chosen: str
    sweep: dict[str, str]
    rows: list[str]
    groups: list[str]
    victims: list[str]
    victim_accuracy: list[float]
    null_size: int
    paper: dict[str, dict[str, str]]
    paper_accuracy: dict[str, str] = {}
    """Row or group, or ``victim``, to the accuracy that the paper states; tables that have it show accuracies."""
    machine: Machine
    extractions: list[Extraction]
    cells: list[Cell]
    layout: Literal["paper", "field", "marks"] = "paper"
    """Which table shows it: a paper's own, suspects by schemes, all schemes of the field by family of removal, or marks
    by what was done to the marked models."""
    refusals: list[Refusal] = []
    shadow_families: list[str] = []
    """Families of removal in the pool of shadow models; a scheme that needs one has seen their like."""
    models: list[Model] = []
    """The victims and every suspect; empty in results that were written before these were kept."""
    date: str = ""
    """Day of the run, as in 2026-11-22."""
    command: str = ""
    """What to type to run it again."""
    removals: str = "*"
    """Which rows were run, as wildcards."""
    revisions: dict[str, str] | None = None
    """The code that made it, as `whorl.revisions.revisions_of` has it; None in results that do not say."""


def describe_machine(device: str) -> Machine:
    """Processor, cores, memory and versions of this machine."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    if device.startswith("cuda"):
        device = torch.cuda.get_device_name(device)
    return Machine(
        processor=processor,
        cores=os.cpu_count() or 1,
        memory_gib=round(memory / 2**30),
        device=device,
        python=platform.python_version(),
        versions={package: version(package) for package in ("whorl", "torch", "numpy", "scikit-learn")},
    )


def write_result(result: Result, path: Path) -> None:
    """Save as JSON of format 2: cells as a table, one a line, since thousands of them repeat their keys otherwise."""
    document: dict[str, Any] = result.model_dump() | {"format": 2}
    names = list(Cell.model_fields)
    rows = [json.dumps([cell[name] for name in names], allow_nan=False) for cell in document.pop("cells")]
    body = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    table = f'"cells": {{"fields": {json.dumps(names)}, "rows": [\n' + ",\n".join(rows) + "\n]}"
    write_whole(path, f"{body},\n {table}\n}}\n")


def read_result(path: Path) -> Result:
    """Read and check a result of any released format. Raises `InvalidFile` naming the first wrong field."""
    document: Any = read_json(path, MAX_BYTES)
    if isinstance(document, dict) and document.get("kind") == "grid":
        raise InvalidFile(
            f"{path} is a result of whorl bench grid, which holds figures and no cells. To see them: "
            f"{shlex.join(['whorl', 'bench', 'show', str(path)])}. This takes a result of whorl bench run"
        )
    try:
        if isinstance(document, dict) and isinstance(document.get("cells"), dict):
            table = document["cells"]
            document["cells"] = [dict(zip(table["fields"], row, strict=True)) for row in table["rows"]]
        return Result.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidFile(f"{path} is not a result: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (KeyError, TypeError, ValueError):
        raise InvalidFile(f"{path} is not a result: its cells are neither a list nor a table") from None
