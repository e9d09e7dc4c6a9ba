"""Skops files that were changed after scikit-learn wrote them, as an adversary would."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import skops.io

Change = Callable[[dict[str, Any], dict[str, bytes]], None]


def rewritten(estimator: Any, path: Path, change: Change) -> Path:
    """A skops file whose schema and arrays were changed."""
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(estimator))) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(entries["schema.json"])
    change(schema, entries)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (entries | {"schema.json": json.dumps(schema).encode()}).items():
            archive.writestr(name, content)
    return path


def states(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object that a schema describes."""
    waiting = [schema]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def find(schema: Any, name: str) -> dict[str, Any]:
    """The first object of that class."""
    return next(state for state in states(schema) if state.get("__class__") == name)


def changed_nodes(field: str, place: int, value: int) -> Change:
    """Another value in a field of the first tree's nodes."""

    def change(schema: dict[str, Any], entries: dict[str, bytes]) -> None:
        name = next(
            name
            for name, content in entries.items()
            if name.endswith(".npy") and np.load(io.BytesIO(content)).dtype.names is not None
        )
        nodes = np.load(io.BytesIO(entries[name]))
        nodes[field][place] = value
        buffer = io.BytesIO()
        np.save(buffer, nodes)
        entries[name] = buffer.getvalue()

    return change
