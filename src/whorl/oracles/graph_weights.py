"""Weights that an ONNX graph keeps in files beside it, as PyTorch's exporter does unless it is told not to.

They are taken into the graph before it is checked, so that what is checked, hashed and run is one and the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from whorl.errors import InvalidFile, UsageError
from whorl.oracles.graph_limits import messages
from whorl.storage import contained, not_whole, one_line

__all__ = ["take_in"]


def take_in(model: Any, path: Path, most: int) -> list[bytes]:
    """Give the tensors of a ``ModelProto`` the numbers that it keeps in other files, and return these in order.

    Parameters:
        most: bytes of all of them together.

    Raises:
        UsageError: a file is not there.
        InvalidFile: it is named with a path, ends too early, or all of them hold too much.
    """
    taken: list[bytes] = []
    left = most
    for tensor in messages(model):
        if tensor.DESCRIPTOR.name != "TensorProto" or not (tensor.data_location or tensor.external_data):
            continue
        said = {entry.key: entry.value for entry in tensor.external_data}
        try:
            file = contained(path.parent, said.get("location"))
        except UsageError:
            name = one_line(ValueError(said.get("location")), 100)
            told = f"{path} keeps weights in {name}, which is not beside it; put both in one folder"
            raise UsageError(told) from None
        data = _read(file, said, left, path)
        left -= len(data)
        tensor.raw_data = data
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        taken.append(data)
    return taken


def _read(file: Path, said: dict[str, str], most: int, path: Path) -> bytes:
    """The stretch of a file that an entry names; all from its beginning on where it gives no length."""
    size = file.stat().st_size
    try:
        start = int(said.get("offset", "0"))
        length = int(said.get("length", str(size - start)))
    except ValueError:
        raise InvalidFile(f"{path} keeps weights in {file.name} at no number") from None
    if start < 0 or length < 0 or start + length > size:
        raise InvalidFile(f"{path} keeps weights in {file.name} beyond its end: is it of this graph, and whole?")
    if length > most:
        raise InvalidFile(f"{path} and the files beside it hold more than an ONNX model that is run may hold")
    try:
        with file.open("rb") as stream:
            stream.seek(start)
            return stream.read(length)
    except OSError as error:
        raise not_whole(file, "file of weights", error) from None
