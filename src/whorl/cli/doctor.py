"""``whorl doctor``: what is installed, what is missing, and a self-test."""

from __future__ import annotations

from typing import Any

import typer
from rich.text import Text

from whorl.cli.console import guarded, print_json
from whorl.cli.options import Json
from whorl.cli.table import Column, Table, show

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
    "claims": ("cryptography", "rfc3161-client"),
}
PURPOSES = {
    "onnx": "suspects that are ONNX files",
    "http": "suspects behind an address",
    "parquet": "pictures in parquet files, and tables of cells as .parquet",
    "hub": "data sets and models of the Hugging Face hub",
    "ray": "runs spread over a Ray cluster (--cluster)",
    "gguf": "checkpoints in GGUF",
    "language": "language models of the zoo",
    "claims": "claims: signatures, time-stamps and logs",
}


@guarded
def doctor(as_json: Json = False) -> None:
    """Check the installation and run a small extraction, calibration and verification."""
    document: dict[str, Any] = {
        "core": {package: _version(package) for package in CORE},
        "extras": {extra: {package: _version(package) for package in packages} for extra, packages in EXTRAS.items()},
        "purposes": PURPOSES,
        "devices": _devices(),
        "self_test": _self_test(),
    }
    if as_json:
        print_json(document)
    else:
        table = Table([Column("part"), Column("state")], header=False)
        for package, found in document["core"].items():
            table.add(package, found or Text("missing", style="red"))
        for extra, packages in document["extras"].items():
            state = "present" if all(packages.values()) else f'missing; type: pip install "whorl[{extra}]"'
            table.add(f"extra {extra}", f"for {PURPOSES[extra]}: {state}")
        table.add("devices", ", ".join(document["devices"]))
        table.add("self-test", document["self_test"])
        show(table)
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
