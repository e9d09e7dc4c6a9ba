"""Axes of a residual stream that waves are added to have an order of their own, and are no evidence."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from whorl.weights.comparison import compare

WORDS, WIDTH, LENGTH = 60, 32, 48


def waves(count):
    """Sines and cosines of falling frequencies: [count, WIDTH]."""
    angles = torch.arange(count)[:, None] / 100 ** (torch.arange(WIDTH // 2) / (WIDTH // 2))
    return torch.cat([angles.sin(), angles.cos()], 1)


def net(path, seed, positions):
    """A decoder whose tokens stand on the axes as positions do, whatever its seed."""
    chance = torch.Generator().manual_seed(seed)
    state = {"model.decoder.embed_tokens.weight": torch.randn(WORDS, WIDTH, generator=chance) + 3 * waves(WORDS)}
    if positions == "waves":
        state["model.decoder.embed_positions.weight"] = waves(LENGTH)
    if positions == "learned":
        state["model.decoder.embed_positions.weight"] = torch.randn(LENGTH, WIDTH, generator=chance)
    layer = "model.decoder.layers.0"
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"):
        state[f"{layer}.{name}.weight"] = torch.randn(WIDTH, WIDTH, generator=chance)
    state[f"{layer}.fc1.weight"] = torch.randn(64, WIDTH, generator=chance)
    state[f"{layer}.fc2.weight"] = torch.randn(WIDTH, 64, generator=chance)
    save_file(state, path)
    return path


@pytest.mark.parametrize(("positions", "named"), [("waves", False), ("none in the file", False), ("learned", True)])
def test_axes_are_tested_where_no_waves_are_added_to_them(positions, named, tmp_path):
    found = compare(net(tmp_path / "a.safetensors", 1, positions), net(tmp_path / "b.safetensors", 2, positions))
    assert ("axis places" in {each.test for each in found.findings}) is named
    assert (found.decision == "inconclusive") is not named, "these two stand alike on their axes, and are strangers"
    same = compare(tmp_path / "a.safetensors", tmp_path / "a.safetensors")
    assert same.decision == "related"
