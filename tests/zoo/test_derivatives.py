"""Derivatives do to the weights what their names say, and keep what they should keep of the function."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.zoo.causal import LanguageModel, Roles, logits, loss
from whorl.zoo.derivatives import (
    cast,
    drop_layer,
    duplicate_layer,
    extend_vocabulary,
    merge,
    noise,
    prune_weights,
    prune_width,
    quantise,
    swap_layers,
    upcycle,
)
from whorl.zoo.recipe import parse_recipe
from whorl.zoo.steps import LANGUAGE

FAMILIES = ("llama", "gpt2", "neox", "mixtral")
LAYERS = ("query", "key", "value", "output", "gate", "up", "down")
TUNE = "tune(steps=30)"


def alike(model: LanguageModel, other: LanguageModel, tokens: torch.Tensor) -> bool:
    scores = logits(model, tokens)
    return float((logits(other, tokens)[..., : scores.shape[-1]] - scores).abs().max() / scores.abs().max()) < 1e-4


def same(model: LanguageModel, other: LanguageModel) -> bool:
    return model.tensors.keys() == other.tensors.keys() and all(
        torch.equal(value, other.tensors[name]) for name, value in model.tensors.items()
    )


@pytest.fixture(params=FAMILIES)
def model(request, made, base):
    return made(base(request.param))


def test_a_grid_has_as_many_levels_as_its_bits_allow(model):
    before, after = Roles(model), Roles(quantise(model, bits=3, group=16))
    for key in after.keys(*LAYERS):
        matrix, rounded = before.get(key), after.get(key)
        for first in range(0, matrix.shape[1], 16):
            part, grid = matrix[:, first : first + 16], rounded[:, first : first + 16]
            step = part.abs().amax(1, keepdim=True) / 3
            assert float((grid / step - (grid / step).round()).abs().max()) < 1e-5
            assert bool(((part - grid).abs() <= step / 2 + 1e-6).all())
    embedding = next(after.keys("embedding"))
    assert torch.equal(before.get(embedding), after.get(embedding))


def test_quantising_twice_changes_nothing_more(model):
    once = quantise(model, bits=4)
    for name, value in quantise(once, bits=4).tensors.items():
        assert torch.allclose(value, once.tensors[name], atol=1e-6)


def test_cast_stores_another_type_and_later_steps_read_it(model, unseen):
    stored = cast(model, dtype="bf16")
    assert {value.dtype for value in stored.tensors.values()} == {torch.bfloat16}
    assert stored.config["dtype"] == "bfloat16"
    assert abs(loss(stored, unseen) - loss(model, unseen)) < 0.02
    assert {value.dtype for value in quantise(stored).tensors.values()} == {torch.float32}


def test_the_smallest_weights_go(model):
    before, after = Roles(model), Roles(prune_weights(model, share=0.75))
    for key in after.keys(*LAYERS):
        kept, matrix = after.get(key) != 0, before.get(key).abs()
        assert int(kept.sum()) == kept.numel() - int(0.75 * kept.numel())
        assert float(matrix[kept].min()) >= float(matrix[~kept].max())


def test_fewer_neurons_are_some_of_those_there_were(model, unseen):
    before, after = Roles(model), Roles(prune_width(model, share=0.25))
    for down in after.keys("down"):
        columns, all_columns = after.get(down).T, before.get(down).T
        assert len(columns) == len(all_columns) * 3 // 4
        places = [int((all_columns == column).all(1).nonzero()[0]) for column in columns]
        assert places == sorted(places)
        up = down._replace(role="up")
        assert torch.equal(after.get(up), before.get(up)[places])
    assert loss(after.model, unseen) < 4.2


def test_fewer_axes_where_no_head_depends_on_the_width(made, base, unseen):
    for family in ("llama", "mixtral"):
        narrow = prune_width(made(base(family)), share=0.25, of="residual")
        assert narrow.config["hidden_size"] == 36
        assert logits(narrow, unseen).isfinite().all()
    with pytest.raises(UsageError, match="heads divide"):
        prune_width(made(base("gpt2")), of="residual")


def test_layers_are_dropped_doubled_and_swapped(model, unseen):
    first, second = (Roles(model).get(key) for key in Roles(model).keys("up") if key.expert <= 0)
    order = {"drop": drop_layer(model, layer=0), "swap": swap_layers(model), "double": duplicate_layer(model, layer=1)}
    expected = {"drop": [second], "swap": [second, first], "double": [first, second, second]}
    for name, changed in order.items():
        found = [Roles(changed).get(key) for key in Roles(changed).keys("up") if key.expert <= 0]
        assert len(found) == len(expected[name])
        assert all(torch.equal(one, other) for one, other in zip(found, expected[name], strict=True)), name
        assert logits(changed, unseen).isfinite().all()
    assert same(swap_layers(order["swap"]), model)
    with pytest.raises(UsageError, match="layers 0 to 1, not 2"):
        drop_layer(model, layer=2)
    with pytest.raises(UsageError, match="only layer"):
        drop_layer(drop_layer(model), layer=0)


def test_a_silent_layer_keeps_the_function(model, unseen):
    assert alike(model, duplicate_layer(model, layer=0, silent=True), unseen)
    assert not alike(model, duplicate_layer(model, layer=0), unseen)


def test_noise_has_the_size_asked_for(model):
    before, after = Roles(model), Roles(noise(model, share=0.5))
    for key in before.keys("up", "embedding"):
        ratio = float((after.get(key) - before.get(key)).std() / before.get(key).std())
        assert abs(ratio - 0.5) < 0.05


def test_more_tokens_leave_the_scores_of_the_others(model, unseen):
    wider = extend_vocabulary(model, tokens=16)
    assert wider.config["vocab_size"] == 272
    assert alike(model, wider, unseen)


def test_copies_behind_a_router_compute_what_the_dense_net_did(made, base, unseen):
    dense = made(base("llama"))
    assert alike(dense, upcycle(dense, experts=4), unseen)
    assert not alike(dense, upcycle(dense, experts=4, share=0.5), unseen)
    assert logits(made(f"{base('llama')} -> upcycle(share=0.1) -> tune(steps=2)"), unseen).isfinite().all()
    with pytest.raises(UsageError, match="upcycle"):
        upcycle(made(base("gpt2")))


def test_merges_at_their_ends_are_the_models_themselves(made, base):
    start = made(base("llama"))
    one, other = made(f"{base('llama')} -> {TUNE}"), made(f"{base('llama')} -> tune(corpus(seed=2), steps=30)")
    assert same(merge(one, other=other, weight=0.0, ancestor=start), one)
    for method in ("slerp", "ties", "dare"):  # with everything kept and one side alone, nothing is left to settle
        whole = merge(one, other=other, weight=0.0, method=method, ancestor=start, density=1.0)
        assert all(torch.allclose(value, one.tensors[name], atol=1e-5) for name, value in whole.tensors.items())
    middle = merge(one, other=other, ancestor=start)
    for name, value in middle.tensors.items():
        assert torch.allclose(value, (one.tensors[name] + other.tensors[name]) / 2, atol=1e-6)


def test_ties_keeps_large_changes_and_the_sign_of_the_majority():
    def model(values: list[float]) -> LanguageModel:
        return LanguageModel({"model_type": "gpt2"}, {"transformer.h.0.mlp.c_fc.weight": torch.tensor([values])})

    start, one, other = model([1.0, 1, 1, 1]), model([5.0, 1.1, 3, 0]), model([3.0, 1.2, -2, 3])
    (merged,) = merge(one, other=other, method="ties", ancestor=start, density=0.75).tensors.values()
    # changes 4, .1, 2, -1 and 2, .2, -3, 2; the smallest of each goes; signs of the sums +, 0, -, +
    assert torch.allclose(merged, torch.tensor([[1 + 3.0, 1, 1 - 3, 1 + 2]]))


def test_dare_keeps_the_mean_change():
    start = LanguageModel({"model_type": "gpt2"}, {"transformer.h.0.mlp.c_fc.weight": torch.zeros(200, 200)})
    ones = LanguageModel({"model_type": "gpt2"}, {"transformer.h.0.mlp.c_fc.weight": torch.ones(200, 200)})
    (merged,) = merge(ones, other=ones, method="dare", ancestor=start, density=0.2).tensors.values()
    assert abs(float(merged.mean()) - 1) < 0.05
    assert set(merged.unique().tolist()) == {0.0, 2.5, 5.0}


def test_what_can_not_be_merged_is_refused(made, base):
    llama, gpt2 = made(base("llama")), made(base("gpt2"))
    with pytest.raises(UsageError, match="only equal architectures"):
        merge(llama, other=gpt2, ancestor=llama)


@pytest.mark.parametrize(
    "step",
    [
        "quantise(bits=1)",
        "cast(int8)",
        "prune_weights(share=1.0)",
        "prune_width(of=layers)",
        "extend_vocabulary(tokens=0)",
        "merge(stranger, method=median)",
    ],
)
def test_settings_without_meaning_are_refused_before_anything_is_built(base, step):
    with pytest.raises(UsageError, match=f"{step.partition('(')[0]}.*, not "):
        parse_recipe(f"{base('llama')} -> {step}", kind=LANGUAGE)


def test_a_net_whose_embedding_was_untied_merges_with_one_that_is_tied(made):
    """Rotation unties GPT-2's; the stranger's unembedding is its embedding."""
    first = "pretrain(gpt2, steps=1)"
    merged = made(f"{first} -> rotate_residual -> merge(stranger, 1/4)")
    assert "lm_head.weight" in merged.tensors
    assert not merged.config["tie_word_embeddings"]
