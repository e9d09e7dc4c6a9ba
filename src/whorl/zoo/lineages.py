"""Which language models a benchmark of lineage compares: bases, what is made of them, and pairs that owe nothing.

The hard negatives are nets of one configuration that saw the same text in the same order and differ in their seed
alone. `siblings` share fresh weights and saw the text in different orders: common ancestors, not descent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Final

from whorl.expressions import Call
from whorl.zoo.recipe import Recipe, parse_recipe
from whorl.zoo.steps import LANGUAGE, NotAdmitted

__all__ = [
    "DERIVATIVES",
    "LARGE",
    "PARTIAL",
    "SMALL",
    "UNFINDABLE",
    "bases",
    "derived",
    "independent_pairs",
    "siblings",
]

SMALL: Final[Mapping[str, str]] = {
    name: f"pretrain({name}, steps=250)" for name in ("llama", "gpt2", "neox", "mixtral")
}
"""The first step of a base of each architecture: width 48, two layers, for tests. About 3 s each on one core."""

LARGE: Final[Mapping[str, str]] = {
    "llama": "pretrain(llama(width=96, layers=4, hidden=256), steps=1000)",
    "gpt2": "pretrain(gpt2(width=96, layers=4, hidden=256), steps=1000)",
    "neox": "pretrain(neox(width=96, layers=4, hidden=256), steps=1000)",
    "mixtral": "pretrain(mixtral(width=96, layers=3, hidden=128, experts=4), steps=1000)",
}
"""The same for benchmarks."""

_STACK: Final = "rotate_residual -> permute_neurons -> permute_heads -> mix_values"
DERIVATIVES: Final[Mapping[str, str]] = {
    "tuned": "tune",
    "tuned long": "tune(steps=600)",
    "tuned hot": "tune(steps=300, learning_rate=0.005)",
    "tuned twice": "tune -> tune(corpus(seed=2))",
    "lora": "lora",
    "lora rank 1": "lora(rank=1)",
    "lora rank 16": "lora(rank=16)",
    "int8": "quantise(bits=8)",
    "int4": "quantise(bits=4)",
    "int3": "quantise(bits=3)",
    "bf16": "cast(bf16)",
    "fp16": "cast(fp16)",
    "half the weights": "prune_weights(1/2)",
    "a fifth of the weights": "prune_weights(4/5)",
    "fewer neurons": "prune_width(1/4) -> tune",
    "fewer axes": "prune_width(1/4, of=residual) -> tune",
    "a layer dropped": "drop_layer(1) -> tune",
    "a layer doubled": "duplicate_layer(0)",
    "a silent layer": "duplicate_layer(0, silent=true) -> tune",
    "layers swapped": "swap_layers(0, 1)",
    "noise 0.3": "noise(0.3)",
    "noise 1": "noise(1.0)",
    "noise 3": "noise(3.0)",
    "merged tunes": 'tune -> merge("base -> tune(corpus(seed=2))")',
    "ties": 'tune -> merge("base -> tune(corpus(seed=2))", method=ties)',
    "dare": 'tune -> merge("base -> tune(corpus(seed=2))", method=dare)',
    "slerp": 'tune -> merge("base -> tune(corpus(seed=2))", method=slerp)',
    "half a stranger": "merge(stranger, 1/2)",
    "three quarters a stranger": "merge(stranger, 3/4)",
    "more tokens": "extend_vocabulary -> tune",
    "upcycled": "upcycle(share=0.1) -> tune",
    "permuted neurons": "permute_neurons",
    "permuted heads": "permute_heads",
    "permuted axes": "permute_residual",
    "permuted experts": "permute_experts -> permute_neurons",
    "scaled neurons": "scale_neurons(signs=true)",
    "flipped neurons": "flip_signs",
    "flipped axes": "flip_signs(of=residual)",
    "flipped values": "flip_signs(of=values)",
    "scaled norms": "scale_norms",
    "mixed heads": "mix_values -> mix_queries",
    "rotated": "rotate_residual",
    "obfuscated": "obfuscate",
    "all permuted, tuned": "permute_neurons -> permute_heads -> permute_residual -> tune",
    "all permuted, merged": "permute_neurons -> permute_heads -> permute_residual -> merge(stranger, 1/4)",
    "disguised": _STACK,
    "disguised, tuned": f"{_STACK} -> tune",
    "disguised, int4": f"{_STACK} -> quantise(bits=4)",
    "disguised, pruned, tuned": f"{_STACK} -> prune_weights(1/2) -> tune",
    "disguised, obfuscated, tuned": f"{_STACK} -> obfuscate -> tune",
    "disguised, merged": f"{_STACK} -> merge(stranger, 1/4)",
    "flipped too, tuned": f"flip_signs -> {_STACK} -> tune",
}
"""What is made of a base, as further steps. Not every architecture admits each, as the steps say: `derived` picks."""

PARTIAL: Final[Mapping[str, str]] = {"embedding reused": "reuse_embedding"}
"""Nets of which one part alone is the base's."""

UNFINDABLE: Final[Mapping[str, str]] = {"distilled": "distil", "distilled on its own text": "distil(corpus)"}
"""Nets that learned from a base and share no weights with it: no test of weights should find them."""


def bases(first: str, count: int = 8) -> list[Recipe]:
    """Nets that differ in their seed alone, of the same text in the same order."""
    return [_with(first, seed=seed) for seed in range(count)]


def siblings(first: str, count: int = 2, *, seed: int = 0) -> list[Recipe]:
    """Nets of one seed that saw the text in different orders; the first is the base of that seed."""
    return [_with(first, seed=seed, order=order) for order in range(count)]


def derived(base: Recipe, steps: Mapping[str, str] = DERIVATIVES) -> dict[str, Recipe]:
    """What these further steps make of a base, by name: those that its architecture admits."""
    found = {name: _made(base, text) for name, text in steps.items()}
    return {name: recipe for name, recipe in found.items() if recipe is not None}


def independent_pairs(
    recipes: Iterable[Recipe], made: Iterable[str] = ("tuned", "int4", "half the weights", "rotated")
) -> list[tuple[Recipe, Recipe]]:
    """All pairs of these bases, and each base beside what is made of the next one, by names of `DERIVATIVES`.

    Both of a pair of tuned nets saw the same second text too.
    """
    listed = list(recipes)
    pairs = list(combinations(listed, 2))
    for name in made:
        for base, other in zip(listed, listed[1:] + listed[:1], strict=True):
            if base is not other and (theirs := _made(other, DERIVATIVES[name])) is not None:
                ours = base.then(DERIVATIVES[name]) if name.startswith("tuned") else base
                pairs.append((ours, theirs))
    return pairs


def _with(first: str, **settings: int) -> Recipe:
    step = parse_recipe(first, kind=LANGUAGE).chain.steps[0]
    bound = Call(step.name, (), tuple((dict(step.kwargs) | settings).items()))
    return parse_recipe(str(bound), kind=LANGUAGE)


def _made(base: Recipe, steps: str) -> Recipe | None:
    try:
        return base.then(steps)
    except NotAdmitted:
        return None
