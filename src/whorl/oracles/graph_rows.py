"""What converters of scikit-learn write around a graph: lists of maps, and an input for each column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from whorl.errors import UsageError
from whorl.storage import one_line

__all__ = ["FLOATS", "WHOLE", "Given", "given_to", "without_maps"]

FLOATS: Final[dict[str, type[np.generic]]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
}
WHOLE: Final[dict[str, type[np.generic]]] = {
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


@dataclass(frozen=True)
class Given:
    """What a graph is asked through.

    Parameters:
        columns: names and types of its inputs; several are one for each number of a row.
        shape: of all of them together, with names or None where the graph leaves an axis open.
    """

    columns: tuple[tuple[str, str], ...]
    shape: tuple[Any, ...]

    @property
    def type(self) -> str:
        """What the inputs hold; real numbers where they differ."""
        kinds = {kind for _, kind in self.columns}
        return kinds.pop() if len(kinds) == 1 else "tensor(float)"

    def in_order_of(self, columns: tuple[str, ...]) -> Given:
        """The same inputs in the order of these columns, where they are named so."""
        kinds = dict(self.columns)
        if len(kinds) < 2 or len(columns) != len(kinds) or set(columns) != set(kinds):
            return self
        return Given(tuple((name, kinds[name]) for name in columns), self.shape)

    def feed(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Inputs by name for ``values``, ``[n, columns]`` where they are several."""
        if len(self.columns) == 1:
            ((name, kind),) = self.columns
            return {name: _cast(values, kind)}
        return {name: _cast(values[:, [place]], kind) for place, (name, kind) in enumerate(self.columns)}


def _cast(values: np.ndarray, kind: str) -> np.ndarray:
    if kind in FLOATS:
        return values.astype(FLOATS[kind])
    limits = np.iinfo(WHOLE[kind])  # pyright: ignore[reportArgumentType, reportCallIssue]
    return values.round().clip(limits.min, limits.max).astype(WHOLE[kind])


def given_to(session: Any, path: object) -> Given:
    """The inputs of a session. Raises `UsageError` where they are neither one of pictures or rows nor its columns."""
    inputs = session.get_inputs()
    known = all(item.type in FLOATS or item.type in WHOLE for item in inputs)
    columns = tuple((item.name, item.type) for item in inputs)
    if known and len(inputs) == 1 and len(inputs[0].shape) in (2, 3, 4):
        return Given(columns, tuple(inputs[0].shape))
    if known and len(inputs) > 1 and all(len(item.shape) == 2 and item.shape[1] == 1 for item in inputs):
        counts = {item.shape[0] if isinstance(item.shape[0], int) else None for item in inputs}
        return Given(columns, (counts.pop() if len(counts) == 1 else None, len(inputs)))
    shown = [f"{one_line(ValueError(item.name), 60)} {item.type} {item.shape}" for item in inputs[:8]]
    found = ", ".join(shown) + (", ..." if len(inputs) > 8 else "")
    if any(item.type == "tensor(string)" for item in inputs):
        raise UsageError(
            f"{path} takes {found}: words, and whorl asks in numbers. Export it behind a column of numbers for them"
        )
    raise UsageError(
        f"{path} takes {found or 'nothing'}; one input of pictures or rows with 2, 3 or 4 axes is needed, or one of "
        "[n, 1] for each column of a row"
    )


def without_maps(model: Any) -> bool:
    """Give a list of maps, which scikit-learn's converters end in, as the rows that it was made from."""
    changed = False
    outputs = {output.name: output for output in model.graph.output}
    for node in model.graph.node:
        if node.op_type == "ZipMap" and node.domain == "ai.onnx.ml" and len(node.output) == 1:
            classes = max((len(each.ints) + len(each.strings) for each in node.attribute), default=0)
            node.op_type, node.domain, changed = "Identity", "", True
            node.ClearField("attribute")
            if output := outputs.get(node.output[0]):
                output.type.Clear()
                output.type.tensor_type.elem_type = 1  # TensorProto.FLOAT, the only type that ZipMap takes
                output.type.tensor_type.shape.dim.add()
                output.type.tensor_type.shape.dim.add(dim_value=classes)
    return changed
