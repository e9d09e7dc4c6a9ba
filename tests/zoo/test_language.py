"""Recipes of language models: bound, built, kept, and learned from."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.storage import digest_tensors
from whorl.zoo.causal import loss
from whorl.zoo.corpus import Corpus
from whorl.zoo.language import build, parse_language

SHORT = "pretrain(llama(width=16, heads=2, groups=1, layers=1, hidden=16), corpus(lines=64), steps=4{})"


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "mixtral"])
def test_a_base_has_learned_more_than_frequencies(made, base, unseen, family):
    odds = Corpus().frequencies
    assert loss(made(base(family)), unseen) < float(-(odds * odds.log()).sum()) - 0.5


def test_equal_recipes_give_equal_bytes(tmp_path):
    first, second = (build(SHORT.format(""), tmp_path / place) for place in ("a", "b"))
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    assert first.name == second.name == parse_language(SHORT.format(", seed=0")).digest


def test_training_leaves_global_randomness_alone(tmp_path):
    before = torch.get_rng_state()
    build(SHORT.format(""), tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_seed_and_order_are_two_things(made):
    one, seed, order = (digest_tensors(made(SHORT.format(text)).tensors) for text in ("", ", seed=1", ", order=1"))
    assert len({one, seed, order}) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tune", "begins with pretrain"),
        ("pretrain(llama) -> pretrain(llama)", "no further step"),
        ("pretrain(lama)", "Did you mean llama"),
        ("pretrain(llama) -> tune(step=3)", "Did you mean steps"),
        ("pretrain(llama) -> distil(seed=0)", "fresh weights again"),
    ],
)
def test_mistakes_are_named_before_anything_is_built(text, message):
    with pytest.raises(UsageError, match=message):
        parse_language(text)
