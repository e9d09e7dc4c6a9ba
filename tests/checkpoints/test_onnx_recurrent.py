"""Recurrent layers in ONNX: matrices as PyTorch's layers hold them, by direction, gates in PyTorch's order."""

from __future__ import annotations

import logging
import math
import warnings

import pytest
import torch
from torch import nn

from whorl.checkpoints.opening import open_checkpoint
from whorl.errors import InvalidFile
from whorl.weights.comparison import compare

onnx = pytest.importorskip("onnx")
KINDS = ("LSTM", "GRU", "RNN")


class Net(nn.Module):
    def __init__(self, kind, seed, *, both=False):
        super().__init__()
        torch.manual_seed(seed)
        self.rnn = getattr(nn, kind)(6, 48, 2, batch_first=True, bidirectional=both)
        self.head = nn.Linear(96 if both else 48, 5)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def exported(path, net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net.eval(), (torch.randn(1, 7, 6),), path, dynamo=False)
    return path


def reordered(net, gates):
    order = torch.randperm(48, generator=torch.Generator().manual_seed(3))
    rows = torch.cat([order + gate * 48 for gate in range(gates)])
    moved = {name: value[rows] if name.startswith("rnn") else value for name, value in net.state_dict().items()}
    for name in ("rnn.weight_hh_l0", "rnn.weight_ih_l1", "rnn.weight_hh_l1", "head.weight"):
        moved[name] = moved[name][:, order]
    net.load_state_dict(moved)
    return net


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_matrices_are_those_of_the_net_that_was_exported(kind, both, tmp_path):
    net = Net(kind, 1, both=both)
    read = open_checkpoint(exported(tmp_path / "net.onnx", net))
    wanted = {name: value for name, value in net.state_dict().items() if "rnn.weight" in name}
    assert {name for name in read.entries if "weight_" in name} == set(wanted)
    for name, value in wanted.items():
        assert torch.equal(read.read(name), value)
        assert torch.equal(read.read(name, [3, 40]), value[[3, 40]])


@pytest.mark.parametrize("kind", KINDS)
def test_tunes_and_permuted_copies_are_found_and_strangers_are_not(kind, tmp_path):
    path = exported(tmp_path / "net.onnx", Net(kind, 1))
    tune = Net(kind, 1)
    with torch.no_grad():
        for value in tune.parameters():
            value += 0.1 * value.std() * torch.randn(value.shape)
    found = compare(path, exported(tmp_path / "tune.onnx", tune))
    assert (found.decision, found.exact) == ("related", kind != "RNN")
    moved = reordered(Net(kind, 1), {"LSTM": 4, "GRU": 3, "RNN": 1}[kind])
    found = compare(path, exported(tmp_path / "moved.onnx", moved))
    assert found.decision == "related"
    strangers = [exported(tmp_path / f"{seed}.onnx", Net(kind, seed)) for seed in range(2, 8)]
    levels = [compare(path, other) for other in strangers]
    assert all(each.tested and each.decision == "inconclusive" for each in levels)
    assert min(each.log_p for each in levels) > math.log(0.01)


def test_the_export_of_a_net_is_found_to_be_it(tmp_path):
    """But for the biases, which ONNX holds in one row for both matrices."""
    net = Net("LSTM", 1)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    found = compare(tmp_path / "net.pt", exported(tmp_path / "net.onnx", net))
    assert (found.decision, found.exact) == ("related", True)
    assert all(change.equal for change in found.changes if "weight" in change.name)


def quantised(path, per_channel):
    """What onnxruntime makes of an LSTM: integers with a scale for each direction, or each column of it."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    packed = path.with_name(f"{path.stem}-{per_channel}.onnx")
    logging.disable()
    quantization.quantize_dynamic(path, packed, per_channel=per_channel, weight_type=quantization.QuantType.QInt8)
    logging.disable(logging.NOTSET)
    return packed


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_integers_of_an_lstm_are_the_numbers_that_they_stand_for(both, per_channel, tmp_path):
    net = Net("LSTM", 1, both=both)
    path = exported(tmp_path / "net.onnx", net)
    packed = quantised(path, per_channel)
    assert "DynamicQuantizeLSTM" in {node.op_type for node in onnx.load(packed).graph.node}
    read = open_checkpoint(packed)
    wanted = {name: value for name, value in net.state_dict().items() if "rnn.weight" in name}
    assert {name for name in read.entries if "weight_" in name} == set(wanted)
    for name, value in wanted.items():
        assert read.entries[name].dtype == "INT8 scaled"
        step = value.abs().amax(1, keepdim=True) if per_channel else value.abs().max()
        assert bool(((read.read(name) - value).abs() <= step / 127).all())
        assert torch.equal(read.read(name, [3, 40]), read.read(name)[[3, 40]])
    found = compare(path, packed)
    assert (found.decision, found.exact, found.direction) == ("related", True, "A first")
    assert "quantised" in {each.name for each in found.operations}
    strangers = [quantised(exported(tmp_path / f"{seed}.onnx", Net("LSTM", seed, both=both)), True) for seed in (2, 3)]
    assert all(compare(path, other).decision == "inconclusive" for other in strangers)


@pytest.mark.parametrize("fault", ["three scales", "scales of other units", "no scales"])
def test_scales_that_do_not_fit_an_lstm(fault, tmp_path):
    packed = onnx.load(quantised(exported(tmp_path / "net.onnx", Net("LSTM", 1)), True))
    node = next(node for node in packed.graph.node if node.op_type == "DynamicQuantizeLSTM")
    held = next(each for each in packed.graph.initializer if each.name == node.input[8])
    if fault == "no scales":
        node.input[8] = "elsewhere"
    else:
        wrong = torch.ones(3) if fault == "three scales" else torch.ones(1, 100)
        held.CopyFrom(onnx.numpy_helper.from_array(wrong.numpy(), held.name))
    onnx.save(packed, tmp_path / "wrong.onnx")
    if fault == "no scales":  # what fits no layer stays as it lies, and the next one is the first
        entries = open_checkpoint(tmp_path / "wrong.onnx").entries
        assert ("rnn.weight_ih_l0" in entries, "rnn.weight_ih_l1" in entries) == (True, False)
        return
    with pytest.raises(InvalidFile) as error:
        open_checkpoint(tmp_path / "wrong.onnx")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("fault", ["other units", "three directions", "used twice", "no units"])
def test_what_fits_no_layer_stays_as_it_lies(fault, tmp_path):
    shapes = {"W": (1, 32, 6), "R": (1, 32, 8)}
    if fault == "other units":
        shapes["R"] = (1, 32, 7)
    if fault == "three directions":
        shapes = {name: (3, *shape[1:]) for name, shape in shapes.items()}
    if fault == "no units":
        shapes = {"W": (1, 0, 6), "R": (1, 0, 0), "more": (4, 4)}
    nodes = [onnx.helper.make_node("LSTM", ["x", "W", "R"], ["y"], name="/rnn/LSTM")]
    if fault == "used twice":
        nodes.append(onnx.helper.make_node("Identity", ["z"], ["u"]))
        nodes.append(onnx.helper.make_node("Add", ["W", "u"], ["v"]))
    held = [onnx.numpy_helper.from_array(torch.randn(shape).numpy(), name) for name, shape in shapes.items()]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], held)), tmp_path / "net.onnx")
    read = open_checkpoint(tmp_path / "net.onnx")
    assert {name: entry.shape for name, entry in read.entries.items()} == shapes
