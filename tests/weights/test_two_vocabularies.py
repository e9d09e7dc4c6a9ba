"""Nets beside other tokenizers: tokens are paired in two ways, and the error rate is one."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from whorl.weights.comparison import compare

TOKENS = 256
NAMES = {f"word {place}": place for place in range(TOKENS)}
ONE_MORE = NAMES | {"one more": TOKENS}  # no row of any embedding
BACKWARDS = {f"word {place}": TOKENS - 1 - place for place in range(TOKENS)}
BESIDE = (0.25, 0.499, 0.501, 0.999, 1.001, 1.999, 2.001, 4.0)


def beside(folder, source, vocabulary, change=lambda name, value: value):
    """A net beside a tokenizer, or beside none."""
    folder.mkdir()
    (folder / "config.json").write_text((source / "config.json").read_text())
    tensors = load_file(source / "model.safetensors")
    save_file({name: change(name, value).contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    if vocabulary is not None:
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
    return folder


def reordered(seed=0, noise=1.0):
    """Noise, and hidden units in another order: what is left is seen in token space alone."""
    chance = torch.Generator().manual_seed(seed)
    order = torch.randperm(64, generator=chance)

    def change(name, value):
        if "gate_proj" in name or "up_proj" in name:
            value = value[order]
        if "down_proj" in name:
            value = value[:, order]
        return value + noise * value.std() * torch.randn(value.shape, generator=chance) if value.ndim > 1 else value

    return change


@pytest.mark.parametrize("theirs", [ONE_MORE, BACKWARDS], ids=["by name", "by number"])
def test_of_two_pairings_the_p_value_is_doubled_and_decides_at_alpha(theirs, saved, tmp_path):
    """By name the right tokens are paired, or, with a wrong tokenizer, by number: the same, and the same p-value."""
    plain = [beside(tmp_path / name, saved("llama"), None, each) for name, each in _sides("plain")]
    known = [
        beside(tmp_path / name, saved("llama"), vocabulary, each)
        for (name, each), vocabulary in zip(_sides("known"), (NAMES, theirs), strict=True)
    ]
    once, twice = compare(*plain), compare(*known)
    assert (once.decision, twice.decision) == ("related", "related")
    assert twice.log_p == pytest.approx(once.log_p + math.log(2))
    for share in BESIDE:
        found = compare(*known, alpha=share * math.exp(twice.log_p))
        assert (found.decision == "inconclusive") == (share < 1)
        assert found.log_p == pytest.approx(twice.log_p)


def _sides(name):
    return (f"{name} a", lambda _, value: value), (f"{name} b", reordered())
