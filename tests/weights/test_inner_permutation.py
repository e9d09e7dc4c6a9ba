"""Units that stand elsewhere in some layers alone, and tensors that lose their places without it."""

from __future__ import annotations

import torch
from safetensors.torch import save_file

from whorl.weights.comparison import compare


def saved(path, state):
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


def test_channels_inside_of_blocks_are_told_to_stand_elsewhere(tmp_path):
    chance = torch.Generator().manual_seed(0)
    net = {}
    for block in range(3):
        net[f"blocks.{block}.conv1.weight"] = torch.randn(24, 24, 3, 3, generator=chance)
        net[f"blocks.{block}.conv2.weight"] = torch.randn(24, 24, 3, 3, generator=chance)
    moved = dict(net)
    for block in range(3):
        order = torch.randperm(24, generator=chance)
        moved[f"blocks.{block}.conv1.weight"] = net[f"blocks.{block}.conv1.weight"][order]
        moved[f"blocks.{block}.conv2.weight"] = net[f"blocks.{block}.conv2.weight"][:, order]
    one = saved(tmp_path / "a.safetensors", net)
    found = compare(one, saved(tmp_path / "b.safetensors", moved))
    assert [each.name for each in found.operations] == ["reordered units"]
    assert (found.decision, found.direction) == ("related", "undetermined")
    tuned = {name: value + 0.3 * torch.randn(value.shape, generator=chance) for name, value in net.items()}
    found = compare(one, saved(tmp_path / "c.safetensors", tuned))
    assert [each.name for each in found.operations] == ["tuned"]


def test_what_was_zero_makes_no_change_that_is_larger_than_twice_its_size(tmp_path):
    chance = torch.Generator().manual_seed(1)
    net = {f"{layer}.weight": torch.randn(32, 32, generator=chance) for layer in range(3)} | {"0.bias": torch.zeros(32)}
    tuned = {name: value + 0.1 * torch.randn(value.shape, generator=chance) for name, value in net.items()}
    found = compare(saved(tmp_path / "a.safetensors", net), saved(tmp_path / "b.safetensors", tuned))
    (told,) = [each.told for each in found.operations if each.name == "tuned"]
    assert 8 < float(told.removeprefix("numbers moved by ").partition("%")[0]) < 14
