"""Small ONNX graphs, made node by node or parsed from ONNX's own text form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def graph(
    nodes: list[onnx.NodeProto],
    tensors: dict[str, np.ndarray] | None = None,
    *,
    shape: tuple[str | int, ...] = ("n", 3, 2, 2),
    dtype: int = TensorProto.FLOAT,
    outputs: tuple[tuple[str, int, tuple[str | int, ...]], ...] = (("y", TensorProto.FLOAT, ("n", 3)),),
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """A graph from ``x`` to ``outputs``."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info(*output) for output in outputs],
        [numpy_helper.from_array(value, name) for name, value in (tensors or {}).items()],
    )
    opsets = [helper.make_opsetid(domain, 1 if domain else 17) for domain in ("", *domains)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


def pooled(**changes: object) -> onnx.ModelProto:
    """The mean of each of three channels."""
    return graph([helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)], **changes)  # pyright: ignore


def saved(model: onnx.ModelProto, tmp_path: Path) -> Path:
    path = tmp_path / "x.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def written(text: str) -> onnx.ModelProto:
    """A model from ONNX's text form: ``g (float[n, 3] x) => (float[n, 3] y) { y = Relu(x) }``."""
    header = '<ir_version: 8, opset_import: ["" : 17, "own" : 1, "ai.onnx.ml" : 3]>'
    return onnx.parser.parse_model(header + text)
