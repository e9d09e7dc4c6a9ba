"""Recipes of language models: bound, built, kept, and learned from."""

from __future__ import annotations

import shutil
import sys

import pytest
import torch

from whorl.errors import MissingExtra, UsageError
from whorl.storage import digest_tensors
from whorl.zoo.causal import Model, import_transformers, logits, loss, opened
from whorl.zoo.corpus import Corpus
from whorl.zoo.language import build, build_all, parse_language

SHORT = "pretrain(llama(width=16, heads=2, groups=1, layers=1, hidden=16), corpus(lines=64), steps=4{})"


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "mixtral"])
def test_a_base_has_learned_more_than_frequencies(made, base, unseen, family):
    odds = Corpus().frequencies
    assert loss(made(base(family)), unseen) < float(-(odds * odds.log()).sum()) - 0.5


def test_equal_recipes_give_equal_bytes(tmp_path):
    first, second = (build(SHORT.format(""), tmp_path / place) for place in ("a", "b"))
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    assert first.name == second.name
    assert first.name.startswith(f"{parse_language(SHORT.format(', seed=0')).digest}-")


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


def test_a_recipe_reads_back_and_binds_what_its_others_are():
    recipe = parse_language('pretrain(llama, seed=3) -> tune -> merge("base -> tune(corpus(seed=2))", method=ties)')
    assert parse_language(str(recipe)) == recipe
    other, ancestor = recipe.others["other"], recipe.others["ancestor"]
    assert str(ancestor) == str(other.parent) == str(parse_language("pretrain(llama, seed=3)"))
    stranger = parse_language("pretrain(llama, seed=3) -> merge(stranger)").others["other"]
    assert dict(stranger.chain.steps[0].kwargs) | {"seed": 3} == dict(ancestor.chain.steps[0].kwargs)
    assert stranger != ancestor


def test_steps_in_between_are_kept_and_built_once(tmp_path):
    long = f"{SHORT.format('')} -> noise -> quantise"
    folder = build(long, tmp_path)
    steps = [parse_language(text) for text in (SHORT.format(""), f"{SHORT.format('')} -> noise", long)]
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {step.digest for step in steps}
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "recipe.json"}
    before = folder.stat().st_mtime_ns
    assert build(long, tmp_path) == folder
    assert folder.stat().st_mtime_ns == before


def test_workers_build_what_this_process_builds(tmp_path):
    start = build(SHORT.format(""), tmp_path / "here")
    shutil.copytree(start, tmp_path / "there" / start.name)
    recipes = [f"{SHORT.format('')} -> noise(seed={seed}) -> quantise" for seed in range(3)]
    here = build_all(recipes, tmp_path / "here", workers=1)
    there = build_all(recipes, tmp_path / "there", workers=2)
    for one, other in zip(here, there, strict=True):
        assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_the_library_reads_a_folder_as_its_own(languages, base, unseen):
    transformers = import_transformers()
    folder = build(base("llama"), languages)
    module = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        assert torch.allclose(module(unseen).logits, logits(Model.read(folder), unseen), atol=1e-4)


def test_tuning_learns_the_other_text(made, base):
    second = Corpus(seed=1).sample(16, torch.Generator().manual_seed(99))
    assert loss(made(f"{base('llama')} -> tune(steps=30)"), second) < loss(made(base("llama")), second) - 0.5


def test_a_low_rank_update_has_that_rank_and_its_adapter_is_the_same_update(made, base):
    for family, place in (("llama", "model.layers.0.self_attn.q_proj"), ("gpt2", "transformer.h.0.attn.c_attn")):
        start, merged, adapter = (
            made(f"{base(family)}{step}")
            for step in ("", " -> lora(rank=2, steps=4)", " -> lora(rank=2, steps=4, merged=false)")
        )
        change = merged.tensors[f"{place}.weight"] - start.tensors[f"{place}.weight"]
        assert int((torch.linalg.svdvals(change) > 1e-4 * change.norm()).sum()) == 2
        low, high = (adapter.tensors[f"base_model.model.{place}.lora_{side}.weight"] for side in "AB")
        update = (high @ low).T if adapter.config["fan_in_fan_out"] else high @ low
        assert torch.allclose(update, change, atol=1e-5)
        untouched = [name for name in start.tensors if "mlp" in name]
        assert all(torch.equal(start.tensors[name], merged.tensors[name]) for name in untouched)
        with pytest.raises(UsageError, match="merged=true"):
            opened(adapter)


def test_a_distilled_net_knows_what_only_its_teacher_read_and_shares_no_weights(made, base, unseen):
    """It is asked about the second corpus, of which the teacher knows nothing, and learns the language of the first."""
    teacher, student = made(base("llama")), made(f"{base('llama')} -> distil(steps=80)")
    second = Corpus(seed=1).sample(16, torch.Generator().manual_seed(99))
    assert loss(student, unseen) < loss(student, second) - 0.5
    for name, value in teacher.tensors.items():
        if value.ndim == 2:
            cosine = torch.cosine_similarity(value.flatten(), student.tensors[name].flatten(), dim=0)
            assert abs(float(cosine)) < 0.1, name


def test_a_reused_embedding_is_all_that_is_reused(made):
    start = "pretrain(llama(width=32, layers=1), steps=4)"
    one, other = made(start), made(f"{start} -> reuse_embedding(steps=4)")
    shared = {name for name, value in one.tensors.items() if torch.equal(value, other.tensors[name])}
    assert "model.embed_tokens.weight" in shared
    assert not any("proj" in name for name in shared)


def test_text_of_more_tokens_or_places_than_a_model_knows_is_refused(tmp_path):
    with pytest.raises(UsageError, match="256 tokens"):
        build(f"{SHORT.format('')} -> tune(corpus(vocabulary=300, lines=64), steps=1)", tmp_path)
    short = "pretrain(gpt2(width=16, layers=1, hidden=16), corpus(lines=64, length=8), steps=1)"
    with pytest.raises(UsageError, match="8 places"):
        build(f"{short} -> tune(corpus(lines=64), steps=1)", tmp_path)
    assert not list(tmp_path.glob(".*.tmp"))


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"whorl\[language\]"):
        import_transformers()
