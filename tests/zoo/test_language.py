"""Recipes of language models: bound, built, kept, and learned from."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch

from whorl.errors import InvalidFile, MissingExtra, UsageError
from whorl.storage import digest_tensors
from whorl.zoo.cache import Zoo
from whorl.zoo.causal import LanguageModel, import_transformers, logits, loss, opened
from whorl.zoo.corpus import Corpus
from whorl.zoo.recipe import parse_recipe
from whorl.zoo.steps import LANGUAGE

SHORT = "pretrain(llama(width=16, heads=2, groups=1, layers=1, hidden=16), corpus(lines=64), steps=4{})"


def read(text):
    return parse_recipe(text, kind=LANGUAGE)


def build(text, cache):
    return Zoo(cache).build([read(text)], workers=1)[0]


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "mixtral"])
def test_a_base_has_learned_more_than_frequencies(made, base, unseen, family):
    odds = Corpus().frequencies
    assert loss(made(base(family)), unseen) < float(-(odds * odds.log()).sum()) - 0.5


def test_equal_recipes_give_equal_bytes(tmp_path):
    first, second = (build(SHORT.format(""), tmp_path / place) for place in ("a", "b"))
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    assert first.name == second.name
    assert first.name.startswith(f"{read(SHORT.format(', seed=0')).digest}-")


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
        ("tune", "begins with .* pretrain"),
        ("pretrain(llama) -> pretrain(llama)", "no further step"),
        ("pretrain(lama)", "Did you mean llama"),
        ("pretrain(llama) -> tune(step=3)", "Did you mean steps"),
        ("pretrain(llama) -> distil(seed=0)", "own initial weights"),
        ("pretrain(llama(width=50))", "no multiple of 4"),
        ("pretrain(gpt2) -> upcycle", "takes llama, not gpt2"),
        ("pretrain(llama) -> upcycle -> upcycle", "takes llama, not mixtral"),
        ("pretrain(neox) -> flip_signs(of=residual)", "not gpt_neox: layer norms"),
        ('pretrain(llama) -> merge("base -> tune(step=3)")', "Did you mean steps"),
        ("pretrain(llama) -> prune_filters", "takes a net, and is given a language model"),
        ("train(mlp, digits)", "begins with pretrain"),
    ],
)
def test_mistakes_are_named_before_anything_is_built(text, message):
    with pytest.raises(UsageError, match=message):
        read(text)


def test_a_recipe_reads_back_and_binds_what_its_others_are():
    recipe = read('pretrain(llama, seed=3) -> tune -> merge("base -> tune(corpus(seed=2))", method=ties)')
    assert read(str(recipe)) == recipe
    other, ancestor = recipe.others["other"], recipe.others["ancestor"]
    assert str(ancestor) == str(other.parent) == str(read("pretrain(llama, seed=3)"))
    stranger = read("pretrain(llama, seed=3) -> merge(stranger)").others["other"]
    assert dict(stranger.chain.steps[0].kwargs) | {"seed": 3} == dict(ancestor.chain.steps[0].kwargs)
    assert stranger != ancestor


def test_steps_in_between_are_kept_and_built_once(tmp_path):
    long = f"{SHORT.format('')} -> noise -> quantise"
    folder = build(long, tmp_path)
    steps = [read(text) for text in (SHORT.format(""), f"{SHORT.format('')} -> noise", long)]
    assert {path.name.partition("-")[0] for path in folder.parent.iterdir()} == {step.digest for step in steps}
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "recipe.json"}
    before = folder.stat().st_mtime_ns
    assert build(long, tmp_path) == folder
    assert folder.stat().st_mtime_ns == before


def test_workers_build_what_this_process_builds(tmp_path):
    start = build(SHORT.format(""), tmp_path / "here")
    shutil.copytree(start, tmp_path / "there" / "language" / start.name)
    recipes = [read(f"{SHORT.format('')} -> noise(seed={seed}) -> quantise") for seed in range(3)]
    here = Zoo(tmp_path / "here").build(recipes, workers=1)
    there = Zoo(tmp_path / "there").build(recipes, workers=2)
    for one, other in zip(here, there, strict=True):
        assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_a_model_without_its_card_is_built_again(tmp_path):
    """The card is written last, so a build that was killed before it left no model."""
    zoo, recipe = Zoo(tmp_path), read(f"{SHORT.format('')} -> noise")
    (place,) = zoo.build([recipe], workers=1)
    whole = (place / "model.safetensors").read_bytes()
    (place / "recipe.json").unlink()
    (place / "model.safetensors").write_bytes(whole[:100])
    assert list(zoo.missing([recipe])) == [recipe.digest]
    zoo.build([recipe], workers=1)
    assert (place / "model.safetensors").read_bytes() == whole
    zoo.forget([recipe])
    assert len(zoo.missing([recipe])) == 2


def test_both_parents_are_built_and_named_and_each_is_what_its_card_states(tmp_path):
    zoo = Zoo(tmp_path)
    recipe = read(f'{SHORT.format("")} -> merge("base -> noise")')
    zoo.build([recipe], workers=1)
    other = recipe.others["other"]
    assert {recipe.parent.digest, other.digest} <= set(zoo.card(recipe).parents)
    assert (zoo.card(recipe).accuracy, zoo.card(recipe).device) == (None, "cpu")
    shutil.copytree(zoo.path(recipe), zoo.path(other), dirs_exist_ok=True, ignore=lambda *_: ["recipe.json"])
    with pytest.raises(InvalidFile, match="other weights than its card states"):
        zoo.build([other.then("quantise")], workers=1)


def test_language_models_are_made_on_the_processor_whatever_the_nets_are_made_on(tmp_path):
    zoo, recipe = Zoo(tmp_path, device="cuda"), read(SHORT.format(""))
    zoo.build([recipe], workers=1)
    assert zoo.card(recipe).device == "cpu"


def test_a_card_of_the_first_releases_is_read(tmp_path):
    zoo, recipe = Zoo(tmp_path), read(f"{SHORT.format('')} -> noise")
    zoo.build([recipe], workers=1)
    card, path = zoo.card(recipe), zoo.card_path(recipe)
    path.write_text(json.dumps({key: getattr(card, key) for key in ("recipe", "seconds", "revisions")}))
    read_now = zoo.card(recipe)
    assert (read_now.digest, read_now.parents, read_now.older) == (recipe.digest, [recipe.parent.digest], "")


def test_a_language_model_is_not_asked(tmp_path):
    recipe = read(SHORT.format(""))
    with pytest.raises(UsageError, match="compared by its weights, not asked"):
        Zoo(tmp_path).oracle(recipe)


def test_the_library_reads_a_folder_as_its_own(languages, base, unseen):
    transformers = import_transformers()
    folder = build(base("llama"), languages)
    module = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        assert torch.allclose(module(unseen).logits, logits(LanguageModel.read(folder), unseen), atol=1e-4)


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
    assert not list(tmp_path.rglob(".*.tmp"))


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"whorl\[language\]"):
        import_transformers()
