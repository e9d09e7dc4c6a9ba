"""Files of thousands of tiny tensors: their cost grows with their number, and what was left out is told."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from whorl.checkpoints import crowds, roles
from whorl.checkpoints.opening import open_checkpoint
from whorl.cli import compare as shown
from whorl.cli.app import app
from whorl.errors import InvalidFile
from whorl.weights import exchangeable, unnamed
from whorl.weights.comparison import compare
from whorl.weights.exchangeable import Axes
from whorl.weights.family.tree import lineage
from whorl.weights.unnamed import by_name


def crowd(count, seed=0):
    chance = torch.Generator().manual_seed(seed)
    shapes = ((8, 8), (2, 2), (16, 8))
    return {f"blocks.{n}.{'ab'[n % 2]}.weight": torch.randn(shapes[n % 3], generator=chance) for n in range(count)}


def saved(path, tensors):
    save_file(tensors, path)
    return path


@pytest.fixture
def few(monkeypatch):
    """As if three hundred tensors were a crowd."""
    monkeypatch.setattr(crowds, "CROWD", 300)


def test_work_grows_with_the_number_of_tensors_and_not_with_its_square(tmp_path, monkeypatch):
    """Names and shapes that are held against each other, counted; four times the tensors are four times the work."""
    counts = []
    reads, natural, readers = exchangeable.reads, exchangeable.natural, Axes.readers

    def counted(function):
        def count(*given):
            counts[-1] += 1
            return function(*given)

        return count

    def walked(self, path, name):
        for each in readers(self, path, name):
            counts[-1] += 1
            yield each

    for room in (exchangeable, unnamed):
        monkeypatch.setattr(room, "reads", counted(reads))
        monkeypatch.setattr(room, "natural", counted(natural))
    monkeypatch.setattr(Axes, "readers", walked)
    for count in (100, 400):
        nets = [open_checkpoint(saved(tmp_path / f"{count} {n}.safetensors", crowd(count, n))) for n in (1, 2)]
        counts.append(0)
        by_name(*nets)
    assert counts[0] > 100
    assert counts[1] < 5 * counts[0]


def test_names_of_no_family_are_not_held_against_its_patterns(monkeypatch):
    asked = []

    class Pattern:
        def fullmatch(self, name):
            asked.append(name)

    known = roles.namings()["llama"]
    tails, patterns = roles.named_parts.__globals__["_patterns"]("llama")
    monkeypatch.setitem(
        roles.named_parts.__globals__, "_patterns", lambda _: (tails, [(role, Pattern()) for role, _ in patterns])
    )
    roles.named_parts(known, ["blocks.0.a.weight", "layers.0.self_attn.q_proj.weight"])
    assert set(asked) == {"layers.0.self_attn.q_proj.weight"}


def test_the_smallest_are_left_out_and_counted(tmp_path, few):
    big = {f"layers.{n}.weight": torch.randn(24, 24) for n in range(4)}
    small = crowd(400)
    net, copy = (saved(tmp_path / f"{name}.safetensors", {**big, **small}) for name in "ab")
    found = compare(net, copy)
    assert [each.name for each in found.operations] == ["identical"]
    assert found.decision == "related"
    assert set(big) <= {at.name for at in found.layers}
    told = [each for each in found.caveats if "104 were left out" in each]
    assert len(told) == 2
    assert all("404 tensors" in each and "at most 4 numbers each" in each for each in told)
    for seen in found.coverage:
        assert seen.numbers == sum(value.numel() for value in (*big.values(), *small.values()))
        assert seen.tested + sum(seen.left_out.values()) == pytest.approx(1)
        assert seen.left_out["tensors beyond those that are compared"] == pytest.approx(104 * 4 / seen.numbers)


def test_what_was_left_out_is_looked_at_before_nets_are_called_identical(tmp_path, few):
    net = crowd(400)
    left = crowds.surplus(open_checkpoint(saved(tmp_path / "a.safetensors", net)))
    changed = {name: value + (name == left[0]) for name, value in net.items()}
    found = compare(tmp_path / "a.safetensors", saved(tmp_path / "b.safetensors", changed))
    assert [each.name for each in found.operations] == ["partly untouched"]
    less = {name: value for name, value in net.items() if name != left[0]}
    found = compare(tmp_path / "a.safetensors", saved(tmp_path / "c.safetensors", less))
    assert [each.name for each in found.operations] == ["partly untouched"]


def test_decoys_in_one_net_do_not_push_out_what_both_have(tmp_path, few):
    net = {f"layers.{n}.weight": torch.randn(24, 24) for n in range(4)}
    decoys = {f"more.{n}.weight": torch.randn(25, 25) for n in range(400)}
    found = compare(saved(tmp_path / "a.safetensors", net), saved(tmp_path / "b.safetensors", {**net, **decoys}))
    assert found.decision == "related"
    assert {at.name for at in found.layers if at.related} >= set(net)


def test_experts_beyond_those_of_any_net_are_left_out_and_layers_are_not(monkeypatch, tmp_path):
    monkeypatch.setattr(crowds, "CROWD", 20)
    monkeypatch.setattr(crowds, "EXPERTS", 4)
    net = {"model.embed_tokens.weight": torch.randn(32, 8), "model.norm.weight": torch.ones(8)}
    for layer in range(2):
        net |= {f"model.layers.{layer}.self_attn.{x}_proj.weight": torch.randn(8, 8) for x in "qkvo"}
        names = [f"experts.{n}.{kind}_proj" for n in range(6) for kind in ("gate", "up", "down")]
        net |= {f"model.layers.{layer}.mlp.{name}.weight": torch.randn(8, 8) for name in names}
        net[f"model.layers.{layer}.mlp.gate.weight"] = torch.randn(6, 8)
    left = crowds.surplus(open_checkpoint(saved(tmp_path / "a.safetensors", net)))
    assert len(left) == 2 * 2 * 3
    assert {re.findall(r"experts\.(\d)", name)[0] for name in left} == {"4", "5"}


def test_one_tensor_of_too_many_experts_is_refused(tmp_path):
    net = {"token_embd.weight": torch.randn(32, 4)}
    net |= {f"blk.0.ffn_{kind}_exps.weight": torch.zeros(10_001, 4, 4) for kind in ("gate", "up", "down")}
    with pytest.raises(InvalidFile, match="10,001 experts"):
        roles.Weights(open_checkpoint(saved(tmp_path / "a.safetensors", net)))


def test_a_folder_goes_on_with_a_note(tmp_path, few):
    net = {f"layers.{n}.weight": torch.randn(24, 24) for n in range(4)}
    saved(tmp_path / "a.safetensors", net)
    saved(tmp_path / "b.safetensors", {name: value + 0.01 for name, value in net.items()})
    saved(tmp_path / "crowd.safetensors", crowd(400))
    found = lineage(tmp_path)
    assert found.families[0].members == ("a.safetensors", "b.safetensors")
    assert "only 100 of its tensors" in found.skipped["crowd.safetensors"]


def test_of_thousands_of_places_the_first_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(shown, "PLACES", 3)
    net = str(saved(tmp_path / "a.safetensors", {f"layers.{n}.weight": torch.randn(24, 24) for n in range(5)}))
    told = CliRunner().invoke(app, ["compare", net, net]).output
    assert "and 2 others, 2 of them ●" in told
    assert "layers.3.weight" not in told
