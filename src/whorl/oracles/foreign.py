"""Formats that whorl does not read, told by their content, with the way to one that it does."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

__all__ = ["told_format"]

MAX_ENTRIES: Final = 100_000  # of an archive whose list of entries is read
HDF5: Final = b"\x89HDF\r\n\x1a\n"
TO_ONNX: Final = "torch.onnx.export(model, (example,), 'model.onnx')"
KERAS: Final = "export it to ONNX: python -m tf2onnx.convert --keras MODEL --output model.onnx"


def told_format(path: Path) -> str:
    """What a file is and how to export it, as the end of "FILE is ..."; empty where it is of no format known here.

    A few bytes and the names in an archive are read; nothing of the file is run.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if head.startswith(HDF5):
            return f"HDF5, as Keras writes it (.h5); {KERAS}"
        if head[4:8] == b"TFL3":
            return "TensorFlow Lite (.tflite); export the model that it was made from to ONNX, or serve it over HTTP"
        return _archive(path) if head.startswith(b"PK\x03\x04") else ""
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        # zipfile gives the last of these for archives of a later version; who opens the file says what is wrong.
        return ""


def _archive(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            return ""
        names = {entry.filename.partition("/")[2] or entry.filename for entry in entries}
        whole = {entry.filename for entry in entries}
    if {"config.json", "model.weights.h5"} <= whole:
        return f"a Keras model (.keras); {KERAS}"
    if "archive_format" in names or "serialized_exported_program.json" in whole:
        return f"a program of torch.export (.pt2); export the model itself to ONNX: {TO_ONNX}"
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return (
            "TorchScript, which is code; where you trust it, load it with torch.jit.load and export it to ONNX "
            f"({TO_ONNX}), or save safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        )
    return ""
