"""Formats that whorl does not read, told by their content, with the way to one that it does."""

from __future__ import annotations

import codecs
import zipfile
from pathlib import Path
from typing import Final

__all__ = ["TO_ONNX", "told_format", "told_lock"]

MAX_ENTRIES: Final = 100_000  # of an archive whose list of entries is read
LEAST_TEXT: Final = 8  # bytes; a torn file may hold less of any format
MOST_TEXT: Final = 512  # bytes of a file that are looked at for text
LFS: Final = b"version https://git-lfs.github.com/spec/"
LOCK: Final = b"whorl-lock/"  # as `whorl.attest.locks` begins a file
HDF5: Final = b"\x89HDF\r\n\x1a\n"
TO_ONNX: Final = "torch.onnx.export(model, (example,), 'model.onnx')"
KERAS: Final = "export it to ONNX: python -m tf2onnx.convert --keras MODEL --output model.onnx"


def told_format(path: Path) -> str:
    """What a file is and how to export it, as the end of "FILE is ..."; empty where it is of no format known here.

    A few bytes and the names in an archive are read; nothing of the file is run.
    """
    try:
        with path.open("rb") as file:
            head = file.read(MOST_TEXT)
        if head.startswith(HDF5):
            return f"HDF5, as Keras writes it (.h5); {KERAS}"
        if head[4:8] == b"TFL3":
            return "TensorFlow Lite (.tflite); export the model that it was made from to ONNX, or serve it over HTTP"
        if told := told_lock(path):
            return told
        if head.startswith(LFS):
            return "a pointer of Git LFS, which holds no weights; fetch them: git lfs pull"
        return _archive(path) if head.startswith(b"PK\x03\x04") else _text(head)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        # zipfile gives the last of these for archives of a later version; who opens the file says what is wrong.
        return ""


def told_lock(path: Path) -> str:
    """The same of a file that `whorl.attest.locks` wrote, and empty of any other."""
    try:
        with path.open("rb") as file:
            locked = file.read(len(LOCK)) == LOCK
    except OSError:  # who opens the file next says what is wrong
        return ""
    return "locked; whoever holds a key to it types: whorl unlock FILE --key KEY -o MODEL" if locked else ""


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


def _text(head: bytes) -> str:
    """What a file is whose first bytes are text; no format of weights begins with more than a few letters.

    The text is not quoted: who sent a link would be told what lies behind it.
    """
    if len(head) < LEAST_TEXT:
        return ""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # a character cut off at the end is no fault
    except UnicodeDecodeError:
        return ""
    told = " ".join(text.split())
    if not told or not told.isprintable():
        return ""
    page = told[:15].lower().startswith(("<!doctype html", "<html"))
    return f"{'a web page' if page else 'text'}, and no model"
