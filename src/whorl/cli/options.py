"""Options that several verbs share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whorl.cli.completion import architectures
from whorl.cli.console import guarded
from whorl.cli.paths import check_file, check_folder, check_no_file

__all__ = [
    "Architecture",
    "Cache",
    "CacheRead",
    "Classes",
    "Cluster",
    "Device",
    "Fresh",
    "Jobs",
    "Json",
    "Quiet",
    "Set",
    "Shape",
    "TrustCode",
    "TrustHost",
    "Wide",
    "file_to_write",
    "files_to_write",
    "folder_to_read",
    "folder_to_write",
]


@guarded
def files_to_write(context: typer.Context, option: typer.CallbackParam, paths: list[Path] | None) -> list[Path] | None:
    """The paths of an option, if a file can be written at each; a line and exit code 2 otherwise."""
    for path in () if context.resilient_parsing else paths or ():
        check_file(path, option.opts[0])
    return paths


@guarded
def file_to_write(context: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
    """The same of one."""
    if path is not None and not context.resilient_parsing:
        check_file(path, option.opts[0])
    return path


@guarded
def folder_to_write(context: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
    """The same of a folder to write files to."""
    if path is not None and not context.resilient_parsing:
        check_folder(path, option.opts[0])
    return path


@guarded
def folder_to_read(context: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
    """The same of a folder that is only read, which may lie on a disk that is not written to."""
    if path is not None and not context.resilient_parsing:
        check_no_file(path, option.opts[0])
    return path


Architecture = Annotated[
    str | None,
    typer.Option(
        help="Architecture of bare weights: 'resnet8(width=8)' or module:callable.", autocompletion=architectures
    ),
]
Classes = Annotated[int | None, typer.Option(min=1, help="Number of classes, where the model does not say.")]
Shape = Annotated[str | None, typer.Option(help="Input shape, as in 3,32,32, where the model does not say.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE: any other field of model.toml, as in output=labels or protocol=tensorflow."),
]
TrustCode = Annotated[bool, typer.Option("--trust-code", help="Allow module:callable to run code for a model.")]
TrustHost = Annotated[
    list[str] | None,
    typer.Option(help="HOST or HOST:PORT that a received model.toml may send queries and keys to."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no chatter.")]
Wide = Annotated[bool, typer.Option("--wide", help="Show every column of a table, however narrow the terminal.")]
KEPT = "Where models, fingerprints and results are kept. [$WHORL_CACHE or ~/.cache/whorl]"
Cache = Annotated[Path | None, typer.Option(help=KEPT, callback=folder_to_write)]
CacheRead = Annotated[Path | None, typer.Option("--cache", help=KEPT, callback=folder_to_read)]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=0, help="Worker processes; 0 for one per core.")]
Cluster = Annotated[
    str,
    typer.Option(
        help="Run on the Ray cluster at HOST:PORT ('auto': the one this node is of), whose nodes share --cache."
    ),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Forget what is kept of this, models included, and compute it again.")
]
Device = Annotated[str, typer.Option(help="Where nets train and answer: cpu, cuda, mps.")]
