"""What is no evidence: constants that both nets were given, axes with an order of their own, and nothing at all."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from whorl.checkpoints.opening import open_checkpoint
from whorl.weights.comparison import compare, document
from whorl.weights.exchangeable import Axes, has_order, natural
from whorl.weights.unnamed import GIVEN, by_name

WIDE, HIDDEN = 24, 40
BINOMIAL = torch.tensor([1.0, 2.0, 1.0])


def drawn(seed, **more):
    """A small net of plain names."""
    chance = torch.Generator().manual_seed(seed)
    shapes = {"fc1.weight": (HIDDEN, WIDE), "fc2.weight": (WIDE, HIDDEN), "fc3.weight": (WIDE, WIDE)}
    return {name: torch.randn(shape, generator=chance) for name, shape in shapes.items()} | more


def sinusoids(rows, columns):
    angles = torch.arange(rows)[:, None] / 1000 ** (torch.arange(columns // 2) / (columns // 2))
    return torch.cat([angles.sin(), angles.cos()], 1)


def fourier(rows, columns):
    angles = 2 * math.pi * torch.arange(rows)[:, None] * torch.arange(columns) / columns
    return torch.hann_window(columns) * angles.cos()


def triangles(rows, columns):
    """A bank of overlapping filters, as of a mel spectrum."""
    centres = torch.linspace(0, columns, rows + 2)[1:-1, None] ** 1.1
    return (1 - (torch.arange(columns) - centres).abs() / 3).clamp_min(0)


def smooth(seed, rows, columns, rough=0.5):
    """A learned table: slow waves of its own, and what it was drawn as."""
    chance = torch.Generator().manual_seed(seed)
    waves = torch.arange(rows)[:, None] * torch.arange(1, 4) * math.pi / rows
    return waves.cos() @ torch.randn(3, columns, generator=chance) + rough * torch.randn(
        rows, columns, generator=chance
    )


CONSTANTS = {
    "causal mask": {"block.0.kept": torch.ones(WIDE, WIDE).tril()},
    "mask of large numbers": {"block.0.kept": torch.full((WIDE, WIDE), -1e4).triu(1)},
    "relative index": {"block.0.kept": (torch.arange(WIDE)[:, None] - torch.arange(WIDE)).float()},
    "integers": {"block.0.kept": torch.arange(WIDE * WIDE).reshape(WIDE, WIDE)},
    "blur": {"block.0.kept": torch.outer(BINOMIAL, BINOMIAL).expand(WIDE, WIDE, 3, 3)},
    "sinusoids": {"block.0.kept": sinusoids(WIDE, WIDE)},
    "short Fourier transform": {"block.0.kept": fourier(WIDE, WIDE)},
    "filters": {"block.0.kept": triangles(WIDE, WIDE)},
    "projection drawn once": {"block.0.kept": torch.randn(WIDE, WIDE, generator=torch.Generator().manual_seed(9))},
}


@pytest.fixture
def held(tmp_path):
    def hold(name, tensors):
        save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / f"{name}.safetensors")
        return tmp_path / f"{name}.safetensors"

    return hold


@pytest.mark.parametrize("kind", CONSTANTS)
def test_a_constant_that_both_nets_were_given_is_no_evidence(kind, held):
    constant = CONSTANTS[kind]
    strangers = held("a", drawn(1, **constant)), held("b", drawn(2, **constant))
    found = compare(*strangers)
    assert found.tested
    assert (found.decision, found.exact) == ("inconclusive", True)
    names = {at.name for each in found.findings for at in each.observations}
    assert "block.0.kept" not in names
    assert "fc1.weight" in names
    share = sum(value.numel() for value in constant.values()) / found.coverage[0].numbers
    assert sum(found.coverage[0].left_out.values()) >= share - 1e-9


def test_a_part_that_was_taken_over_bit_for_bit_is_evidence_and_no_constant(held):
    bias = torch.randn(HIDDEN, generator=torch.Generator().manual_seed(5))
    own, other = drawn(1, **{"fc1.bias": bias}), drawn(2, **{"fc1.bias": bias + 1})
    part = other | {name: own[name] for name in ("fc1.weight", "fc1.bias")}
    alone = other | {"fc1.weight": own["fc1.weight"]}
    most = other | {name: own[name] for name in ("fc1.weight", "fc2.weight")}
    ours = held("a", own)
    assert [compare(ours, held("b", each)).decision for each in (own, most, part, alone)] == [
        "related",
        "related",
        "part reused",
        "inconclusive",
    ]
    nets = open_checkpoint(ours), open_checkpoint(held("b", alone))
    assert by_name(*nets).left_out[1]["fc1.weight"] == GIVEN
    scheduled = {"fc1.weight": own["fc1.weight"], "betas": torch.linspace(0.1, 2, 40)}
    nets = open_checkpoint(held("a", own | scheduled)), open_checkpoint(held("b", other | scheduled))
    assert by_name(*nets).left_out[0]["fc1.weight"] == GIVEN


def test_learned_tables_that_share_an_order_are_no_evidence(held):
    accused = 0
    for seed in range(10):
        tables = [smooth(2 * seed + side, WIDE, WIDE) + sinusoids(WIDE, WIDE) for side in (0, 1)]
        nets = [held(str(side), drawn(2 * seed + side, **{"block.0.table": tables[side]})) for side in (0, 1)]
        found = compare(*nets)
        accused += found.decision != "inconclusive"
        assert "block.0.table" not in {at.name for each in found.findings for at in each.observations}
    assert accused <= 1


def test_orders_are_seen_and_units_have_none():
    for table in (sinusoids(48, 32), sinusoids(48, 32).T, fourier(32, 64), fourier(32, 64).T, triangles(32, 64)):
        assert has_order(table)
    assert all(has_order(smooth(seed, 32, 32)) for seed in range(20))
    scaled = torch.linspace(1, 3, 32)[:, None]
    assert has_order(scaled * torch.randn(32, 32, generator=torch.Generator().manual_seed(1)))
    chance = torch.Generator().manual_seed(0)
    called = [has_order(torch.randn(32, 16, generator=chance).exp()) for _ in range(100)]
    assert sum(called) <= 3  # beyond 4 deviations, a few in a thousand times
    order = torch.randperm(48, generator=chance)
    assert not has_order(sinusoids(48, 32)[order])


def test_what_reads_and_writes_in_one_path_shows_units(held):
    shapes = {
        "stem.weight": (16, 3, 3, 3),
        "blocks.0.conv.weight": (16, 16, 3, 3),
        "blocks.0.attn.q_proj.weight": (64, 16),
        "blocks.0.attn.out_proj.weight": (16, 64),
        "blocks.0.mlp.fc1.weight": (48, 16),
        "blocks.0.mlp.fc2.weight": (16, 48),
        "blocks.0.mix.lin.weight": (16, 16),
        "blocks.0.pos_embed": (16, 16),
        "embed_tokens.weight": (64, 16),
        "head.weight": (10, 16),
    }
    net = open_checkpoint(held("a", {name: torch.randn(shape) for name, shape in shapes.items()}))
    axes = Axes(net, net.entries)
    assert {"blocks.0.pos_embed", "embed_tokens.weight"} == axes.left_out.keys()
    read = {name for name in axes.weights if axes.read(name)}
    assert read == set(shapes) - {"blocks.0.mix.lin.weight", "head.weight", *axes.left_out}
    assert {name for name in read if axes.shown(name)} == {
        "stem.weight",
        "blocks.0.conv.weight",
        "blocks.0.mlp.fc1.weight",
    }


def test_no_test_is_no_test_passed(held):
    nets = [held(str(seed), {"lin.weight": drawn(seed)["fc1.weight"][:1]}) for seed in (1, 2)]
    found = compare(*nets)
    told = json.loads(json.dumps(document(found)))
    assert (told["decision"], told["tested"], told["exact"]) == ("inconclusive", False, False)
    assert told["p_value"] is None
    assert told["log10_p"] is None
    assert told["coverage"][0]["tested"] == 0
    assert sum(told["coverage"][0]["left_out"].values()) == pytest.approx(1)


def test_what_is_not_shown_is_not_called_exact(held):
    """Square matrices, of which each may read the other, or both an axis of time."""
    squares = [torch.randn(WIDE, WIDE, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    ours, theirs = (
        held(name, {"a.weight": one, "b.weight": two}) for name, one, two in (("a", *squares[:2]), ("b", *squares[2:]))
    )
    found = compare(ours, theirs)
    assert (found.decision, found.tested, found.exact) == ("inconclusive", True, False)
    found = compare(ours, ours)
    assert (found.decision, found.exact) == ("related", False)
    assert {each.test for each in found.findings} == {"row places", "two matchings"}


def test_towers_without_roles_are_tested_beside_those_with(saved, tmp_path):
    """A stranger's language model that took over our picture tower: a part, by the tensors that have no roles."""
    towers = [{f"vision_tower.{name}": value for name, value in drawn(seed).items()} for seed in (1, 2)]

    def joined(name, seed, tower):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text((saved("llama") / "config.json").read_text())
        save_file(load_file(saved("llama", seed) / "model.safetensors") | tower, folder / "model.safetensors")
        return folder

    ours = joined("ours", 0, towers[0])
    assert compare(ours, joined("whole", 0, towers[0])).decision == "related"
    assert compare(ours, joined("tower", 1, towers[0])).decision == "part reused"
    assert compare(ours, joined("text", 0, towers[1])).decision == "part reused"
    found = compare(ours, joined("neither", 1, towers[1]))
    assert found.decision == "inconclusive"
    for each in found.coverage:
        assert each.tested + sum(each.left_out.values()) == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_an_order_is_one_whatever_the_unit_of_the_numbers(scale):
    """Norms that drift along the axis, and rows without any order."""
    rows = torch.randn(64, 40, generator=torch.Generator().manual_seed(0))
    assert has_order(scale * rows * torch.linspace(0.5, 2, 64)[:, None])
    assert not has_order(scale * rows)


@pytest.mark.parametrize("name", ["mask", "hann", "sinusoid", "blur", "tril"])
def test_what_is_a_buffer_by_its_name_is_tested_by_no_order(name, tmp_path):
    value = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    save_file({f"a.{name}": value, "a.weight": value.clone()}, tmp_path / "a.safetensors")
    left = Axes(open_checkpoint(tmp_path / "a.safetensors"), ["a.weight", f"a.{name}"]).left_out
    assert left.get(f"a.{name}") == "buffers, by name"
    assert "a.weight" not in left or left["a.weight"] != "buffers, by name"


def test_digits_that_count_nothing_are_words_in_a_name():
    assert sorted(["l.10", "l.9", "l.1²2", "l.²"], key=natural) == ["l.1²2", "l.9", "l.10", "l.²"]
