"""Weights in files beside an ONNX graph, as PyTorch's exporter puts them there by default."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_graphs import graph, saved

from whorl.errors import InvalidFile, UsageError
from whorl.oracles import onnx as oracle_module
from whorl.oracles.onnx import OnnxOracle

INPUTS = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))


def apart(tmp_path, data=b"\0" * 12, **said):
    """A graph that adds a vector, which stands in ``weights`` unless it is said otherwise."""
    nodes = [
        helper.make_node("Add", ["x", "w"], ["z"]),
        helper.make_node("ReduceMean", ["z"], ["y"], axes=[2, 3], keepdims=0),
    ]
    model = graph(nodes, {"w": np.zeros((1, 3, 1, 1), np.float32)})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "weights"} | said).items():
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "weights").write_bytes(data)
    return saved(model, tmp_path)


def test_what_torch_exports_by_default_is_run(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 400), torch.nn.ReLU(), torch.nn.Linear(400, 5))
    path, batch = tmp_path / "net.onnx", {0: torch.export.Dim("n")}
    torch.onnx.export(net.eval(), (INPUTS,), path, dynamic_shapes=(batch,), verbose=False)
    assert (tmp_path / "net.onnx.data").stat().st_size > 4 * 400 * 12
    oracle = OnnxOracle(path)
    torch.testing.assert_close(oracle.logits(INPUTS), net(INPUTS), atol=1e-5, rtol=1e-5)
    kept = bytearray((tmp_path / "net.onnx.data").read_bytes())
    kept[3] ^= 1
    (tmp_path / "net.onnx.data").write_bytes(kept)
    assert OnnxOracle(path).digest != oracle.digest  # the weights are what it is
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(UsageError, match=r"keeps weights in net\.onnx\.data, which is not beside it"):
        OnnxOracle(path)


def test_a_graph_of_one_file_keeps_its_digest(tmp_path):
    import hashlib

    model = graph([helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)])
    path = saved(model, tmp_path)
    assert OnnxOracle(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"location": "../../etc/passwd"}, "no file of this folder"),
        ({"location": "/etc/passwd"}, "no file of this folder"),
        ({"location": ""}, "no file of this folder"),
        ({"location": "a\nb"}, "not beside it"),
        ({"offset": "4"}, "refused by onnxruntime"),  # eight bytes for three numbers
        ({"offset": "4", "length": "12"}, "beyond its end"),
        ({"offset": "-4"}, "beyond its end"),
        ({"length": "-1"}, "beyond its end"),
        ({"length": "many"}, "at no number"),
        ({"offset": "9" * 5000}, "at no number"),
        ({"length": "8"}, "refused by onnxruntime"),
    ],
)
def test_stretches_that_are_not_there(tmp_path, said, message):
    with pytest.raises((InvalidFile, UsageError), match=message) as error:
        OnnxOracle(apart(tmp_path, **said))
    assert str(error.value).isprintable()


def test_what_lies_beside_counts_towards_the_bound(tmp_path, monkeypatch):
    path = apart(tmp_path, np.ones(3, np.float32).tobytes())
    torch.testing.assert_close(OnnxOracle(path).logits(INPUTS), INPUTS.mean((2, 3)) + 1)
    monkeypatch.setattr(oracle_module, "MAX_BYTES", path.stat().st_size + 11)
    with pytest.raises(InvalidFile, match="more than an ONNX model that is run may hold"):
        OnnxOracle(path)


def test_weights_of_branches_are_taken_in_too(tmp_path):
    apart(tmp_path)
    inner = onnx.load_model(apart(tmp_path, location="elsewhere"), load_external_data=False).graph.initializer[0]
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["b"], value=inner)],
        "branch",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(np.array(True), "c")),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    with pytest.raises(UsageError, match="keeps weights in elsewhere"):
        OnnxOracle(saved(graph(nodes), tmp_path))
