"""Digests of recipes, under which models are kept: a model of any release is found again by the next."""

from __future__ import annotations

import pytest

from whorl.zoo.recipe import parse_recipe
from whorl.zoo.steps import LANGUAGE

NETS = {
    "train(mlp(width=16), digits(size=8), epochs=3, seed=1)": "3e8ca2be39cdfe5ea11c",
    "train(mlp(width=16), digits(size=8), epochs=3, seed=1) -> quantise(int4)": "92f8ddc430a7c7cf1f0d",
    "train(resnet8(width=8), digits) -> prune_filters(4/16)": "4350ac5e91f3577cee6e",
    "train('random_forest(trees=7)', textures(size=16), seed=2, share=1/2)": "8ecfb4f32e69d717743a",
    "train(wrn22-4, cifar10, flip=true)": "fdbc00deada25bfb8c09",
    "train(mlp, digits) -> extract('resnet8(width=4)', seed=500)": "c3d3c8a405af2681e5e6",
    "train(mlp, digits) -> merge(ties)": "b5864cbb3237d54cbd15",
    "train(mlp, digits) -> transfer(textures) -> fine_tune(last)": "aff40b87a51be54f29c8",
    "pretrained(timm(name=resnet50.tv_in1k), data=cifar10)": "bfef2e7fdbaf5368b760",
    "train(mlp, digits(size=8), epochs=5) -> mark(uchida(learning_rate=0.2), count=30, seed=7)": "a690859641547bfd929c",
    "train(mlp_regressor(width=16), diabetes, epochs=20, learning_rate=0.01)": "eb85440883c3587073da",
    "train(mlp, digits) -> trojan -> unlearn_trigger": "79e8865a2bdf2a7589f1",
    "train(mlp, digits) -> lora(rank=8) -> distil(mlp, temperature=4.0, seed=9)": "277b7f4bec05a7e1b756",
}
TEXTS = {
    "pretrain(llama)": "34e8b43bd0531eb78c25",
    "pretrain(gpt2(width=16, layers=1), steps=3) -> quantise(bits=8)": "712a89ae45aa98192a66",
    'pretrain(llama, seed=3) -> tune -> merge("base -> tune(corpus(seed=2))", method=ties)': "94af64b046a462df741e",
    "pretrain(mixtral, steps=250) -> permute_experts -> permute_neurons": "b72b799fbd89db156c68",
    "pretrain(neox) -> merge(stranger, 1/2)": "e2c79509356752d383d6",
    "pretrain(llama) -> upcycle(share=0.1) -> tune": "e8ed017d118c04c51410",
    "pretrain(llama) -> lora(rank=1)": "f60c21ca0aebfc430d5c",
    "pretrain(llama) -> distil(corpus)": "22ab55fe5b84cd9fb7d0",
    "pretrain(llama) -> reuse_embedding": "59b54d5c38a53b269016",
    "pretrain(llama) -> prune_width(1/4, of=residual) -> tune": "0625c16fb7bd6240a5de",
    "pretrain(llama) -> flip_signs(of=residual) -> obfuscate": "2b6377880109cd740d81",
    "pretrain(gpt2) -> cast(bf16) -> noise(0.3)": "67316a3bd104056c7e41",
    "pretrain(llama, seed=5) -> permute_residual -> merge(stranger, 1/4)": "b401e8b0bb0c06bfa731",
}


@pytest.mark.parametrize(("text", "digest"), NETS.items())
def test_nets_keep_their_place(text, digest):
    assert parse_recipe(text).digest == digest


@pytest.mark.parametrize(("text", "digest"), TEXTS.items())
def test_language_models_keep_theirs(text, digest):
    assert parse_recipe(text, kind=LANGUAGE).digest == digest
