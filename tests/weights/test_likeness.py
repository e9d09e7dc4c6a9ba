"""An effect size: the mathematics by brute force, and what turning, reordering and strangers do to it."""

from __future__ import annotations

import itertools

import pytest
import torch
from families import transformers
from safetensors.torch import load_file, save_file

from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.roles import Weights
from whorl.weights.comparison import compare, document
from whorl.weights.likeness import SPAN, likeness, procrustes, unbiased_cka
from whorl.weights.pairing import Basis


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_unbiased_cka_is_the_mean_over_different_places():
    """HSIC as a U-statistic: the kernel of Gretton et al. (2005) over all quadruples of different things."""
    grams = [each @ each.T for each in (drawn(7, 3), drawn(7, 4, seed=1))]

    def hsic(a, b):
        total = [
            a[i, j] * b[i, j] + a[i, j] * b[q, r] - 2 * a[i, j] * b[i, q]
            for i, j, q, r in itertools.permutations(range(7), 4)
        ]
        return float(sum(total)) / len(total)

    expected = hsic(*grams) / (hsic(grams[0], grams[0]) * hsic(grams[1], grams[1])) ** 0.5
    assert unbiased_cka(*grams) == pytest.approx(expected)
    assert unbiased_cka(grams[0], grams[0]) == pytest.approx(1)
    assert unbiased_cka(grams[0], 3 * grams[0]) == pytest.approx(1)


def test_unbiased_cka_of_strangers_is_zero_on_average():
    values = [
        unbiased_cka(*(each @ each.T for each in (drawn(20, 8, seed=2 * seed), drawn(20, 8, seed=2 * seed + 1))))
        for seed in range(200)
    ]
    assert abs(sum(values) / len(values)) < 0.02


@pytest.mark.parametrize(("width", "tokens"), [(24, 100), (24, 12), (SPAN + 40, SPAN + 100)])
def test_streams_are_turned_onto_each_other(width, tokens):
    ours = drawn(width, tokens).float()
    turn = torch.linalg.qr(drawn(width, width, seed=1)).Q.float()
    one, two = procrustes(Basis(ours, turn @ ours, tokens, ""))
    assert one.shape == (width, min(width, tokens, SPAN))
    assert torch.allclose(turn @ one, two, atol=1e-3)
    assert torch.allclose(one.T @ one, torch.eye(one.shape[1]), atol=1e-4)


def net(folder, seed=0, layers=3, **settings):
    sizes = {"vocab_size": 128, "hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(**sizes | settings, num_hidden_layers=layers, intermediate_size=64)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def opened(folder):
    return Weights(open_checkpoint(folder))


def rewritten(source, target, change):
    tensors = load_file(source / "model.safetensors")
    target.mkdir()
    (target / "config.json").write_text((source / "config.json").read_text())
    save_file({name: change(name, value).contiguous() for name, value in tensors.items()}, target / "model.safetensors")
    return target


def test_a_turned_stream_and_other_heads_make_no_difference(tmp_path):
    turn = torch.linalg.qr(drawn(48, 48, seed=3)).Q.float()

    def turned(name, value):
        if any(word in name for word in ("o_proj", "down_proj")):
            return turn.T @ value
        if value.ndim < 2:
            return value
        value = value @ turn
        if "q_proj" in name:  # groups of heads exchanged
            return value.view(2, 24, 48).flip(0).reshape(48, 48)
        return value.view(2, 12, 48).flip(0).reshape(24, 48) if "k_proj" in name else value

    source = net(tmp_path / "a")
    found = likeness(opened(source), opened(rewritten(source, tmp_path / "b", turned)), {0: 0, 1: 1, 2: 2}, most=3)
    assert found is not None
    assert found.aligned == pytest.approx(1, abs=1e-3)
    assert abs(found.off_path or 0) < 0.1
    assert found.layers == ((0, 0), (1, 1), (2, 2))
    assert found.aligned == pytest.approx(sum(found.matrix[place][place] for place in range(3)) / 3)


def test_gains_are_folded(tmp_path):
    gains = 0.5 + torch.rand(48, generator=torch.Generator().manual_seed(0))

    def folded(name, value):
        if "input_layernorm" in name:
            return value / gains
        return value * gains if any(word in name for word in ("q_proj", "k_proj", "v_proj")) else value

    source = net(tmp_path / "a")
    found = likeness(opened(source), opened(rewritten(source, tmp_path / "b", folded)), {0: 0})
    assert found is not None
    assert found.aligned == pytest.approx(1, abs=1e-3)
    assert found.off_path is None


def test_strangers_moved_layers_and_other_widths(tmp_path):
    source = net(tmp_path / "a")
    stranger = likeness(opened(source), opened(net(tmp_path / "b", 1)), {0: 0, 1: 1, 2: 2}, most=3)
    assert stranger is not None
    assert abs(stranger.aligned) < 0.1
    elsewhere = likeness(opened(source), opened(source), {0: 1, 1: 0, 2: 2}, most=3)
    assert elsewhere is not None
    assert elsewhere.aligned == pytest.approx(1 / 3, abs=0.1)
    wide = likeness(opened(source), opened(net(tmp_path / "c", hidden_size=64)), {0: 0, 1: 1})
    assert wide is not None
    assert abs(wide.aligned) < 0.2
    assert likeness(opened(source), opened(source), {}) is None


def test_it_is_shown_and_decides_nothing(saved, tmp_path):
    told = document(compare(saved("llama"), saved("llama", 1)))
    assert told["decision"] == "inconclusive"
    assert set(told["likeness"]) == {"aligned", "off_path", "layers", "matrix"}
    assert all(test["name"] != "likeness" for test in told["tests"])
    assert document(compare(saved("vit"), saved("vit")))["likeness"]["aligned"] == pytest.approx(1, abs=1e-3)
    save_file({"x": torch.randn(40, 30)}, tmp_path / "x.safetensors")
    assert document(compare(tmp_path / "x.safetensors", tmp_path / "x.safetensors"))["likeness"] is None
