"""``whorl doctor``: what is installed, what is missing, and a self-test."""

from __future__ import annotations

from typing import Any

import typer
from rich.table import Table

from whorl.cli.console import guarded, out, print_json
from whorl.cli.options import Json

__all__ = ["doctor"]

CORE = ("whorl", "torch", "numpy", "scipy", "scikit-learn", "safetensors", "skops", "pillow")
EXTRAS = {
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "http": ("httpx2", "stamina", "jmespath"),
    "parquet": ("pyarrow",),
    "hub": ("huggingface-hub", "pyarrow", "timm"),
    "ray": ("ray",),
    "gguf": ("gguf",),
    "language": ("transformers",),
}


@guarded
def doctor(as_json: Json = False) -> None:
    """Check the installation and run a small extraction, calibration and verification."""
    document: dict[str, Any] = {
        "core": {package: _version(package) for package in CORE},
        "extras": {extra: {package: _version(package) for package in packages} for extra, packages in EXTRAS.items()},
        "devices": _devices(),
        "self_test": _self_test(),
    }
    if as_json:
        print_json(document)
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        for package, found in document["core"].items():
            table.add_row(package, found or "[red]missing[/]")
        for extra, packages in document["extras"].items():
            complete = all(packages.values())
            hint = "" if complete else f'[yellow]missing[/]  pip install "whorl\\[{extra}]"'
            table.add_row(f"extra {extra}", "present" if complete else hint)
        table.add_row("devices", ", ".join(document["devices"]))
        table.add_row("self-test", document["self_test"])
        out.print(table, highlight=False)
    if document["self_test"] != "passed":
        raise typer.Exit(1)


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> list[str]:
    import torch

    found = ["cpu"]
    if torch.cuda.is_available():
        found += [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def _self_test() -> str:
    """A fingerprint must recognise its own victim and nothing that was trained apart."""
    import torch

    from whorl.data import SOURCES
    from whorl.nets.training import Schedule, build, fit
    from whorl.ownership import calibrate, extract, verify

    data = SOURCES.make("digits(size=8)").load("victim")
    nets = []
    for seed in range(21):
        generator = torch.Generator().manual_seed(seed)
        nets.append(build("mlp", data.input_shape, len(data.classes), generator))
        fit(nets[-1], data, Schedule(epochs=5, learning_rate=0.1), generator=generator)
    fingerprint = extract(nets[0], data="digits(size=8)", scheme="ipguard(learning_rate=0.01)", budget=20)
    strangers = {str(seed): net for seed, net in enumerate(nets[1:20])}
    fingerprint = calibrate(fingerprint, strangers, pool="self-test")
    own, other = verify(fingerprint, nets[0], alpha=0.05), verify(fingerprint, nets[20], alpha=0.05)
    if own.decision != "derived":
        return f"failed: the victim itself is called {own.decision}"
    return "failed: an independent net is called derived" if other.decision == "derived" else "passed"
