"""What happened between two nets: plans, units, experts, tokens, factors, and what is told of who came first."""

from __future__ import annotations

import json

import pytest
import torch
from families import FAMILIES
from safetensors.torch import load_file, save_file

from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.roles import Weights
from whorl.weights.comparison import Comparison, compare, document
from whorl.weights.kurtosis import attention_kurtosis, kurtosis


def read(folder):
    return json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")


def write(folder, config, tensors):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    return folder


def moved(tensors, share=0.1, seed=0):
    """Every matrix with a little noise, as if it were tuned."""
    chance = torch.Generator().manual_seed(seed)
    return {
        name: value + share * value.std() * torch.randn(value.shape, generator=chance) if value.ndim > 1 else value
        for name, value in tensors.items()
    }


def told(found: Comparison) -> dict[str, tuple[str, str]]:
    return {each.name: (each.told, each.first) for each in found.operations}


def both_ways(one, two):
    return compare(one, two, layers=0), compare(two, one, layers=0)


def with_units(tensors, change):
    """Readers and writers of hidden units changed alike: units are rows [h, anything] of each."""
    return {
        name: change(value)
        if "gate_proj" in name or "up_proj" in name
        else change(value.T).T
        if "down_proj" in name
        else value
        for name, value in tensors.items()
    }


def test_units_that_were_removed_are_told(saved, tmp_path):
    config, tensors = read(saved("llama"))
    kept = torch.randperm(64, generator=torch.Generator().manual_seed(0))[:48]
    pruned = write(
        tmp_path / "b", config | {"intermediate_size": 48}, moved(with_units(tensors, lambda rows: rows[kept]))
    )
    down, up = both_ways(saved("llama"), pruned)
    words = "hidden layers of 64 units in A, 48 in B; 100% of B's are units of A"
    assert told(down)["units pruned"] == (words, "A first")
    assert (down.direction, up.direction) == ("A first", "B first")


def test_units_that_do_nothing_say_the_other_way(saved, tmp_path):
    """Structural obfuscation: half as many units more, which read what others read."""
    config, tensors = read(saved("llama"))

    def widened(rows):
        extra = rows[:32].clone()
        return torch.cat([rows, extra])

    wide = with_units(tensors, widened)
    for name in wide:
        if "down_proj" in name:
            wide[name][:, :32] *= 0.25
            wide[name][:, 64:] *= 0.75
    obfuscated = write(tmp_path / "b", config | {"intermediate_size": 96}, wide)
    down, up = both_ways(saved("llama"), obfuscated)
    assert told(down)["units added"][1] == "A first"
    assert "units pruned" not in told(down)
    assert (down.direction, up.direction) == ("A first", "B first")


def test_axes_that_were_removed_are_told(saved, tmp_path):
    config, tensors = read(saved("llama"))
    kept = torch.arange(32)[torch.arange(32) % 4 != 0]
    narrow = {
        name: value[kept]
        if value.ndim == 1 or any(word in name for word in ("o_proj", "down_proj"))
        else value[:, kept]
        for name, value in tensors.items()
    }
    narrow = write(tmp_path / "b", config | {"hidden_size": 24, "head_dim": 8}, narrow)
    down, up = both_ways(saved("llama"), narrow)
    assert told(down)["width changed"] == ("residual stream of 32 axes in A, 24 in B", "undetermined")
    assert told(down)["axes pruned"] == ("100% of B's axes of the residual stream are axes of A", "A first")
    assert told(up)["axes pruned"] == ("100% of A's axes of the residual stream are axes of B", "B first")
    assert (down.direction, up.direction) == ("A first", "B first")


def upcycled(folder, source, share, seed=0, strangers=0):
    """A mixtral of four experts; the last ``strangers`` of them owe the dense net nothing."""
    config, tensors = read(source)
    config |= {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    chance = torch.Generator().manual_seed(seed)
    mixed = {name: value for name, value in tensors.items() if ".mlp." not in name}
    for name, value in tensors.items():
        if ".mlp." not in name:
            continue
        place, word = name.split(".mlp.")
        word = {"gate_proj.weight": "w1", "down_proj.weight": "w2", "up_proj.weight": "w3"}[word]
        for expert in range(4):
            noise = value.std() * torch.randn(value.shape, generator=chance)
            made = noise if expert >= 4 - strangers else value + share * noise
            mixed[f"{place}.block_sparse_moe.experts.{expert}.{word}.weight"] = made
        mixed[f"{place}.block_sparse_moe.gate.weight"] = torch.randn(4, 32, generator=chance)
    return write(folder, config, mixed)


def test_experts_that_are_copies_of_one_layer_are_told(saved, tmp_path):
    down, up = both_ways(saved("llama"), upcycled(tmp_path / "b", saved("llama"), 0.1))
    assert told(down)["experts"][0] == "4 experts in B alone"
    assert told(down)["upcycled"] == ("4 of 4 experts of B are copies of A's hidden layer", "A first")
    assert told(up)["upcycled"] == ("4 of 4 experts of A are copies of B's hidden layer", "B first")
    one = compare(saved("llama"), upcycled(tmp_path / "c", saved("llama"), 0.1, strangers=3), layers=0)
    assert told(one)["one expert"] == ("A's hidden layer is expert 0 of B, and no other of 4", "undetermined")


def test_an_expert_that_was_taken_out_did_not_come_first(saved, tmp_path):
    mixed = upcycled(tmp_path / "b", saved("llama"), 0.3)
    config, tensors = read(saved("llama"))
    _, experts = read(mixed)
    words = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
    for name, value in experts.items():
        if ".experts.0." in name:
            place, word = name.removesuffix(".weight").split(".block_sparse_moe.experts.0.")
            tensors[f"{place}.mlp.{words[word]}.weight"] = value
    found = compare(write(tmp_path / "c", config, tensors), mixed, layers=0)
    assert told(found)["upcycled"][1] == "undetermined"


def test_tokens_that_were_added_are_told(saved, tmp_path):
    config, tensors = read(saved("llama"))
    chance = torch.Generator().manual_seed(0)
    more = {
        name: torch.cat([value, 0.01 * torch.randn(16, 32, generator=chance)])
        if "embed_tokens" in name or "lm_head" in name
        else value
        for name, value in moved(tensors).items()
    }
    wide = write(tmp_path / "b", config | {"vocab_size": 272}, more)
    down, up = both_ways(saved("llama"), wide)
    assert told(down)["vocabulary extended"] == ("256 tokens in A, 272 in B; A's are B's first 256", "undetermined")
    assert told(up)["vocabulary cut"][0] == "272 tokens in A, 256 in B; B's are A's first 256"
    shuffled = {name: value.flip(0) if value.shape == (272, 32) else value for name, value in more.items()}
    other = write(tmp_path / "c", config | {"vocab_size": 272}, shuffled)
    assert told(compare(saved("llama"), other, layers=0)).get("vocabulary changed") in (
        None,  # without tokens in common nothing may be found at all
        ("256 tokens in A, 272 in B", "undetermined"),
    )


def test_tokens_are_told_by_name_where_names_are_known(saved, tmp_path):
    config, tensors = read(saved("llama"))
    one = write(tmp_path / "a", config, tensors)
    order = torch.randperm(256, generator=torch.Generator().manual_seed(0))
    rows = torch.cat([order, torch.tensor([0, 1])])
    turned = {
        name: value[rows] if "embed_tokens" in name or "lm_head" in name else value for name, value in tensors.items()
    }
    two = write(tmp_path / "b", config | {"vocab_size": 258}, turned)
    (one / "vocab.json").write_text(json.dumps({f"t{place}": place for place in range(256)}))
    names = {f"t{int(old)}": new for new, old in enumerate(order)} | {"new": 256, "newer": 257}
    (two / "vocab.json").write_text(json.dumps(names))
    found = compare(one, two, layers=0)
    words = "256 tokens in A, 258 in B; all of A's tokens are among B's, by name"
    assert told(found)["vocabulary extended"][0] == words


def test_an_embedding_that_was_untied_is_told(saved, tmp_path):
    """Tied in A; a copy of its own in B, both of which then moved."""
    config, tensors = read(saved("gpt2"))
    assert "lm_head.weight" not in tensors
    untied = moved(tensors | {"lm_head.weight": tensors["transformer.wte.weight"].clone()})
    two = write(tmp_path / "b", config | {"tie_word_embeddings": False}, untied)
    down, up = both_ways(saved("gpt2"), two)
    words = "B's unembedding is a copy of its embedding, A has one matrix for both"
    assert told(down)["embedding untied"] == (words, "A first")
    assert up.direction == "B first"
    other = untied | {"lm_head.weight": torch.randn(256, 32, generator=torch.Generator().manual_seed(1))}
    fresh = write(tmp_path / "c", config | {"tie_word_embeddings": False}, other)
    assert told(compare(saved("gpt2"), fresh, layers=0))["unembedding"][1] == "undetermined"


def test_equal_numbers_of_another_type_are_told_apart_from_equal_files(saved, tmp_path):
    config, tensors = read(saved("llama"))
    rounded = {name: value.bfloat16() for name, value in tensors.items()}
    half = write(tmp_path / "half", config, rounded)
    whole = write(tmp_path / "whole", config, {name: value.float() for name, value in rounded.items()})
    same = "every tensor that was compared is equal in value"
    assert told(compare(half, half))["identical"][0] == f"{same} and type"
    assert told(compare(half, whole))["identical"][0] == f"{same}: BF16 in A, F32 in B"
    assert set(told(compare(saved("llama"), half))) == {"cast"}


def test_a_factor_is_told_and_no_direction(saved, tmp_path):
    config, tensors = read(saved("llama"))
    scaled = {name: 1.7 * value if "proj" in name else value for name, value in tensors.items()}
    for found in both_ways(saved("llama"), write(tmp_path / "b", config, scaled)):
        assert set(told(found)) == {"scaled", "partly untouched"}
        assert found.branch is None
        assert found.direction == "undetermined"
    tuned = compare(saved("llama"), write(tmp_path / "c", config, moved(tensors)))
    assert "scaled" not in told(tuned)


def test_kurtosis_is_a_figure_and_decides_nothing(saved):
    chance = torch.Generator().manual_seed(0)
    assert kurtosis(torch.randn(400, 400, generator=chance)) == pytest.approx(3, abs=0.05)
    assert kurtosis(torch.tensor([-1.0, 1.0, -1.0, 1.0])) == pytest.approx(1)
    net = Weights(open_checkpoint(saved("gpt2")))
    by_hand = [kurtosis(net.read(role, layer)) for layer in (0, 1) for role in ("query", "key", "value", "output")]
    assert attention_kurtosis(net, [0, 1]) == pytest.approx(sum(by_hand))
    assert attention_kurtosis(net, []) is None
    shown = document(compare(saved("gpt2"), saved("gpt2")))["kurtosis"]
    assert shown == (pytest.approx(sum(by_hand)),) * 2


def test_every_family_is_told_to_be_itself(saved):
    for family in sorted(FAMILIES):
        found = compare(saved(family), saved(family))
        assert [each.name for each in found.operations] == ["identical"], family


@pytest.mark.parametrize("share", [1e-3, 0.3])
def test_a_branch_point_is_told_only_of_changes_that_are_large_enough_to_tell(saved, tmp_path, share):
    """Noise has nothing to do with A, so that A first is right; of very little noise it would be a matter of chance."""
    config, tensors = read(saved("llama"))
    points = []
    for seed in range(4):
        copy = write(tmp_path / str(seed), config, moved(tensors, share, seed))
        points.append(compare(saved("llama"), copy, layers=0).branch)
    if share < 0.1:
        assert points == [None] * 4
    else:
        assert all(abs(point) < 0.1 for point in points)  # three standard errors


def test_heads_in_another_order_are_not_told_as_tuned(saved, tmp_path):
    config, tensors = read(saved("llama"))
    heads = {"q_proj": [2, 3, 0, 1], "k_proj": [1, 0], "v_proj": [1, 0]}  # two groups change places

    def permuted(name, value):
        for part, order in heads.items():
            if part in name:
                return value.view(len(order), 8, -1)[order].reshape(value.shape)
        return value.view(32, 4, 8)[:, heads["q_proj"]].reshape(value.shape) if "o_proj" in name else value

    copy = write(tmp_path / "copy", config, {name: permuted(name, value) for name, value in tensors.items()})
    found = compare(saved("llama"), copy, layers=0)
    assert [each.name for each in found.operations] == ["reordered heads"]
    assert "query and key, value and output have another basis" in found.operations[0].told
    assert found.operations[0].told.endswith("all else is equal")
    assert "reordered heads" not in told(compare(saved("llama"), write(tmp_path / "b", config, moved(tensors, 1.0))))


def test_a_large_update_of_low_rank_is_no_other_order_of_heads(saved, tmp_path):
    config, tensors = read(saved("llama"))
    draw = torch.Generator().manual_seed(0)

    def updated(name, value):
        if not any(part in name for part in ("q_proj", "k_proj", "v_proj", "o_proj")):
            return value
        change = torch.randn(value.shape[0], 2, generator=draw) @ torch.randn(2, value.shape[1], generator=draw)
        return value + 2 * value.norm() / change.norm() * change

    copy = write(tmp_path / "copy", config, {name: updated(name, value) for name, value in tensors.items()})
    found = told(compare(saved("llama"), copy, layers=0))
    assert "low-rank update" in found
    assert "reordered heads" not in found


def test_equal_tensors_of_nets_with_other_tensors_too_are_not_two_identical_nets(saved, tmp_path):
    """What was obfuscated has its units elsewhere and more of them; the tensors of one shape alone are equal."""
    config, tensors = read(saved("llama"))
    wider = {
        name: torch.cat([value, value[:8]]) if "gate_proj" in name or "up_proj" in name else value
        for name, value in tensors.items()
    }
    wider |= {name: torch.cat([value, torch.zeros(32, 8)], 1) for name, value in tensors.items() if "down_proj" in name}
    found = compare(saved("llama"), write(tmp_path / "wider", config, wider), layers=0)
    assert "identical" not in told(found)
    assert "equal; not among these: A's model.layers.0.mlp.down_proj.weight" in told(found)["partly untouched"][0]
    assert list(told(compare(saved("llama"), saved("llama"), layers=0))) == ["identical"]


def lost(value, kind):
    """A matrix that has lost something."""
    if kind == "quantised":
        return torch.round(value / value.abs().max() * 7) / 7 * value.abs().max()
    if kind == "pruned":
        return value * (value.abs() > value.abs().median())
    if kind == "projected":
        axis = torch.nn.functional.normalize(torch.arange(1.0, 1 + len(value)), dim=0)
        return value - axis.outer(axis @ value)
    left, sizes, right = torch.linalg.svd(value, full_matrices=False)
    sizes[len(sizes) * 3 // 4 :] = 0
    return left @ sizes.diag() @ right


@pytest.mark.parametrize(
    ("kind", "name"), [(each, each) for each in ("quantised", "pruned", "projected")] + [("truncated", "projected")]
)
def test_a_loss_tells_who_came_first_where_nothing_else_happened(saved, tmp_path, kind, name):
    config, tensors = read(saved("llama"))

    def without(those):
        return {key: lost(value, kind) if "proj" in key else value for key, value in those.items()}

    poorer = write(tmp_path / "poorer", config, without(tensors))
    down, up = both_ways(saved("llama"), poorer)
    assert (told(down)[name][1], told(up)[name][1]) == ("A first", "B first")
    assert (down.direction, up.direction) == ("A first", "B first")
    # A tuned copy came after the base that was poorer than it: a loss says only that the poorer is not the ancestor.
    tuned = write(tmp_path / "tuned", config, moved(tensors, 0.02))
    down, up = both_ways(tuned, poorer)
    assert down.decision == up.decision == "related"
    assert down.direction != "A first"
    assert up.direction != "B first"
    if name != "projected":  # which is not told once something else moved
        assert told(down)[name][1] == told(up)[name][1] == "undetermined"


def test_an_update_of_low_rank_that_was_stored_in_fewer_bits_is_told(saved, tmp_path):
    config, tensors = read(saved("llama"))
    chance = torch.Generator().manual_seed(0)

    def updated(name, value):
        if "proj" not in name:
            return value
        left, right = (torch.randn(size, 2, generator=chance) for size in value.shape)
        return value + 0.1 * value.std() * left @ right.T

    merged = {name: updated(name, value).bfloat16() for name, value in tensors.items()}
    found = compare(saved("llama"), write(tmp_path / "merged", config, merged), layers=0)
    (words, first) = told(found)["low-rank update"]
    assert words == "the change has rank 2 to 2; the rest is equal after rounding to BF16"
    assert first == "undetermined"
    assert "cast" not in told(found), "which would say that all numbers are the same"


def test_identical_is_said_of_every_tensor(saved, tmp_path):
    """Also of those without a role, and of layers that are not read otherwise."""
    config, tensors = read(saved("bert"))
    assert "identical" in told(compare(saved("bert"), write(tmp_path / "same", config, tensors)))
    gains = {name: value + 0.1 if "LayerNorm" in name else value for name, value in tensors.items()}
    found = compare(saved("bert"), write(tmp_path / "gains", config, gains))
    assert found.decision == "related"
    others = [f"both nets' embeddings.LayerNorm.{word}" for word in ("bias", "weight")]
    others.append("both nets' encoder.layer.0.attention.output.LayerNorm.bias and others")
    words = f"every tensor that was compared is equal; not among these: {', '.join(others)}"
    assert told(found)["partly untouched"][0] == words
    more = compare(saved("bert"), write(tmp_path / "more", config, tensors | {"extra": torch.ones(3)}))
    assert "identical" not in told(more)
