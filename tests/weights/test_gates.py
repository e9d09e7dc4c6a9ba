"""Recurrent layers: their gates belong to units, which are found in place, in another order, and in strangers not."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from whorl.checkpoints.opening import open_checkpoint
from whorl.weights.comparison import compare
from whorl.weights.exchangeable import SLANTED
from whorl.weights.gates import Cells
from whorl.weights.unnamed import by_name

KINDS = {"LSTM": (nn.LSTM, 4), "GRU": (nn.GRU, 3), "RNN": (nn.RNN, 1)}


def net_of(kind, seed, inputs=6):
    torch.manual_seed(seed)
    layers = KINDS[kind][0](inputs, 48, 2)
    return {f"rnn.{name}": value for name, value in layers.state_dict().items()} | {"head.weight": torch.randn(5, 48)}


def reordered(net, gates, order):
    """The units of every layer in another order, gate by gate."""
    rows = torch.cat([order + gate * len(order) for gate in range(gates)])
    moved = {name: value[rows] if name.startswith("rnn") else value for name, value in net.items()}
    for name in ("rnn.weight_hh_l0", "rnn.weight_ih_l1", "rnn.weight_hh_l1", "head.weight"):
        moved[name] = moved[name][:, order]
    return moved


@pytest.fixture
def held(tmp_path):
    def hold(state, name):
        save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / f"{name}.safetensors")
        return open_checkpoint(tmp_path / f"{name}.safetensors")

    return hold


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_found_in_place_and_in_another_order_and_a_stranger_is_not(kind, held):
    net = net_of(kind, 1)
    tuned = {name: value + 0.1 * value.std() * torch.randn(value.shape) for name, value in net.items()}
    found = compare(held(net, "net"), held(tuned, "tuned"))
    assert (found.decision, [each.name for each in found.operations]) == ("related", ["tuned"])
    assert found.exact == (kind != "RNN"), "names and shapes do not show what the rows of one matrix are"
    order = torch.randperm(48, generator=torch.Generator().manual_seed(3))
    found = compare(held(net, "net"), held(reordered(net, KINDS[kind][1], order), "moved"))
    assert (found.decision, found.exact) == ("related", False)
    assert [each.name for each in found.operations] == ["reordered units"]
    found = compare(held(net, "net"), held(net_of(kind, 2), "stranger"))
    assert found.tested
    assert (found.decision, found.operations) == ("inconclusive", ())


@pytest.mark.parametrize("name", ["rnn.weight_hh_l0", "head.weight"])
def test_a_tensor_with_nan_is_left_out_of_a_net_without_roles(name, held):
    net = net_of("LSTM", 1)
    broken = {key: value * math.nan if key == name else value for key, value in net.items()}
    found = compare(held(net, "net"), held(broken, "broken"))
    assert found.decision == "related"
    assert any(name in each and "left out" in each for each in found.caveats)


@pytest.mark.parametrize("kind", KINDS)
def test_strangers_whose_units_keep_themselves_are_not_accused(kind, held):
    """A recurrence that begins at the identity (Le, Jaitly & Hinton, 2015) has its units in place in all nets."""
    nets = [net_of(kind, seed) for seed in (1, 2)]
    for net in nets:
        for layer in (0, 1):
            net[f"rnn.weight_hh_l{layer}"] += 2 * torch.eye(48).repeat(KINDS[kind][1], 1)
    found = compare(held(nets[0], "a"), held(nets[1], "b"))
    assert found.decision == "inconclusive"
    assert found.log_p > math.log(0.01)


def test_what_a_layer_keeps_is_never_looked_at_place_by_place(held):
    """Its units stand in one order on both axes, so that the order of its rows is not drawn for given columns."""
    names = ("rnn.weight_ih_l0", "rnn.weight_hh_l0", "head.weight")
    nets = [{name: value for name, value in net_of("LSTM", seed).items() if name in names} for seed in (1, 2)]
    found = by_name(held(nets[0], "a"), held(nets[1], "b"))
    assert found.tested[0] == {"rnn.weight_ih_l0"}
    assert found.left_out[0]["rnn.weight_hh_l0"] == SLANTED


def test_gates_of_a_unit_stand_side_by_side(held):
    net = net_of("LSTM", 1)
    cells = Cells(held(net, "net"))
    assert cells.kept == {"rnn.weight_hh_l0", "rnn.weight_hh_l1"}
    assert cells.entries["rnn.weight_ih_l0"].shape == (48, 6, 4)
    value = cells.read("rnn.weight_ih_l0", [2, 5])
    assert torch.equal(value[1, :, 3], net["rnn.weight_ih_l0"][3 * 48 + 5])
    assert torch.equal(cells.read("head.weight"), net["head.weight"])


def test_what_is_no_recurrent_layer_is_left_as_it_is(held):
    """Matrices of four times as many rows, without such names, of other heights, or whose layer is projected."""
    shapes = {
        "mlp.gate.weight": (32, 8),
        "mlp.up.weight": (32, 8),
        "mlp.down.weight": (8, 32),
        "a.weight_hh_l0": (32, 8),
        "a.weight_ih_l0": (24, 8),
        "b.weight_hh_l0": (32, 8),
        "c.weight_hh_l0": (32, 6),
        "c.weight_ih_l0": (32, 9),
        "d.hidden.weight": (32, 8),
        "d.input.weight": (32, 8, 3),
    }
    net = held({name: torch.randn(shape) for name, shape in shapes.items()}, "net")
    cells = Cells(net)
    assert not cells.kept
    assert {name: entry.shape for name, entry in cells.entries.items()} == shapes
