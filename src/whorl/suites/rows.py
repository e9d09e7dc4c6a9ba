"""What suites are made of: models by seed, and rows of removals with the rates that papers use."""

from __future__ import annotations

from collections.abc import Iterable

from whorl.suites.suite import Derived
from whorl.zoo.recipe import Recipe, parse_recipe

__all__ = ["beyond_rows", "known_rows", "models", "paper_rows"]


def models(architecture: str, settings: str, seeds: Iterable[int]) -> tuple[Recipe, ...]:
    """One model per seed."""
    return tuple(parse_recipe(f"train({architecture}, {settings}, seed={seed})") for seed in seeds)


def paper_rows(*, epochs: int, slower: float = 1) -> tuple[Derived, ...]:
    """Table rows of the paper, and quantisation, which every scheme since then is tried on.

    ``slower`` divides the learning rates, for victims at the end of a long training.
    """

    def tune(rate: float) -> str:
        return f"epochs={epochs}, learning_rate={rate / slower:g}"

    return (
        Derived("FTLL", f"fine_tune(last, {tune(0.01)})"),
        Derived("FTAL", f"fine_tune(all, {tune(0.01)})"),
        Derived("RTLL", f"retrain(last, {tune(0.05)})"),
        Derived("RTAL", f"retrain(all, {tune(0.02)})"),
        *(Derived(f"WP p=.{p}", f"prune_weights({p}/10, {tune(0.005)})") for p in range(1, 6)),
        *(Derived(f"FP c={c}/16", f"prune_filters({c}/16, {tune(0.01)})") for c in range(1, 8)),
        *(Derived(kind, f"quantise({kind})") for kind in ("fp16", "bf16", "int8", "int4")),
    )


def beyond_rows(same: str, other: str, *, epochs: int) -> tuple[Derived, ...]:
    """What the paper does not claim to survive."""
    pruned = ((6, 7, 8, 9), "prune_weights({}/10, learning_rate=0.005)")
    rows = [Derived(f"WP p=.{p}", pruned[1].format(p), beyond=True) for p in pruned[0]]
    rows += [
        Derived("adversarial FT", "adversarial_fine_tune(epsilon=0.03)", beyond=True),
        Derived("labels, same net", f"extract({same}, labels, epochs={epochs})", beyond=True),
        Derived("labels, other net", f"extract({other}, labels, epochs={epochs}, learning_rate=0.1)", beyond=True),
        Derived("probabilities, same net", f"extract({same}, probabilities, epochs={epochs})", beyond=True),
        Derived(
            "probabilities, other net",
            f"extract({other}, probabilities, epochs={epochs}, learning_rate=0.1)",
            beyond=True,
        ),
        Derived("distillation", f"distil({other}, temperature=4.0, epochs={epochs}, learning_rate=0.05)", beyond=True),
        Derived("re-parametrised", "reparametrise"),
    ]
    return tuple(rows)


def known_rows(*, epochs: int, slower: float = 1) -> tuple[Derived, ...]:
    """Copies that calibrate: other data (the calibration part), other seeds; ``slower`` as in `paper_rows`."""

    def own(rate: float, seed: int) -> str:
        return f"epochs={epochs}, part=calibration, learning_rate={rate / slower:g}, seed={seed}"

    rows: list[Derived] = []
    for seed in range(7001, 7007):
        rows += [
            Derived("fine-tune", f"fine_tune(all, {own(0.01, seed)})"),
            Derived("retrain", f"retrain(all, {own(0.02, seed)})"),
            Derived("prune weights", f"prune_weights(5/10, {own(0.005, seed)})"),
            Derived("prune filters", f"prune_filters(4/16, {own(0.01, seed)})"),
        ]
    return tuple(rows)
