"""What is told of how one net became another: paths of layers, operations, who came first, and how alike attention is.

    python benchmarks/lineage_history.py --cache CACHE [-o benchmarks/results/lineage-history.json]

Seeds begin at 400: limits were chosen on those from 300 to 307 (`whorl.weights.layering`, `whorl.weights.plans`).

- ``paths``: nets of four layers of which one was dropped, doubled, doubled silently or exchanged, then tuned, disguised
  or made noisy: whether the path of layers is right, and what is told of who came first; and expanded nets of which a
  copy was dropped again, where nothing may be told.
- ``derivatives``: every derivative of `whorl.zoo.lineages`, with what is told and the likeness of attention; against
  pairs of strangers.
- ``kurtosis``: whether the kurtosis of attention grows from a net to what was tuned from it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

from whorl.bench.result import describe_machine
from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.roles import Weights
from whorl.metrics import auc
from whorl.storage import write_json
from whorl.weights.comparison import Comparison, compare
from whorl.weights.kurtosis import attention_kurtosis
from whorl.weights.layering import LayerMap
from whorl.weights.pairing import basis
from whorl.zoo.cache import Zoo, default_cache
from whorl.zoo.lineages import SMALL, bases, derived, independent_pairs
from whorl.zoo.recipe import Recipe, parse_recipe
from whorl.zoo.steps import LANGUAGE

FIRST_SEED = 400
ORDERS = {  # by the step that makes them: origins of B's layers in a net of four
    "drop_layer(2)": (0, 1, 3),
    "duplicate_layer(1)": (0, 1, 1, 2, 3),
    "duplicate_layer(1, silent=true)": (0, 1, 1, 2, 3),
    "swap_layers(1, 2)": (0, 2, 1, 3),
}
AFTER = ("tune", "noise(1.0)", "permute_neurons -> rotate_residual -> tune")


class Nets:
    """Recipes, each built at most once."""

    def __init__(self, cache: Path) -> None:
        self.zoo = Zoo(cache)

    def __call__(self, recipe: Recipe | str) -> Weights:
        """One of them, opened."""
        return Weights(open_checkpoint(*self._paths(recipe)))

    def compare(self, one: Recipe | str, two: Recipe | str) -> Comparison:
        """Two of them, all layers."""
        return compare(*self._paths(one, two), layers=0)

    def _paths(self, *recipes: Recipe | str) -> list[Path]:
        read = [parse_recipe(each, kind=LANGUAGE) if isinstance(each, str) else each for each in recipes]
        return self.zoo.build(read, workers=1)


def path(nets: Nets, one: str, two: str) -> tuple[int | None, ...]:
    first, second = nets(one), nets(two)
    axes = basis(first, second, 256)
    assert axes is not None
    return LayerMap(first, second, axes).path.origins


def paths(nets: Nets, family: str, seeds: range) -> dict[str, Any]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in seeds:
        base = f"pretrain({family}(layers=4), steps=250, seed={seed})"
        for step, order in ORDERS.items():
            for after in AFTER:
                made = f"{base} -> {step} -> {after}"
                found = nets.compare(base, made)
                right = path(nets, base, made) == order
                rows.setdefault(f"{step}, {after}", []).append({"right": right, "direction": found.direction})
        tuned = f"{base} -> duplicate_layer(1, silent=true) -> tune"
        for dropped in (1, 2):
            made = f"{tuned} -> drop_layer({dropped}) -> tune(corpus(seed=2))"
            firsts = {each.first for each in nets.compare(tuned, made).operations if each.name == "layers duplicated"}
            rows.setdefault("a copy dropped again", []).append({"told": sorted(firsts)})
    return rows


def derivatives(nets: Nets, first: str, *, count: int, strangers: int) -> dict[str, Any]:
    held = bases(first, FIRST_SEED + max(count, strangers))[FIRST_SEED:]
    rows: dict[str, list[dict[str, Any]]] = {}
    for base in held[:count]:
        for name, recipe in derived(base).items():
            rows.setdefault(name, []).append(row(nets.compare(base, recipe)))
    apart = [row(nets.compare(*pair)) for pair in independent_pairs(held[:strangers])]
    found = [each for group in rows.values() for each in group]
    most = max(each["aligned"] for each in apart)
    return {
        "derivatives": rows,
        "auc": auc([each["aligned"] for each in found], [each["aligned"] for each in apart]),
        "strangers": {
            "pairs": len(apart),
            "mean": mean([each["aligned"] for each in apart]),
            "most": most,
            "off path": mean([each["off_path"] for each in apart if each["off_path"] is not None]),
        },
        "missed": sorted({name for name, group in rows.items() if any(each["aligned"] <= most for each in group)}),
        "disguised": min(each["aligned"] for name, group in rows.items() if "disguised" in name for each in group),
        "B first, wrongly": sorted(
            {name for name, group in rows.items() if any(each["direction"] == "B first" for each in group)}
        ),
    }


def row(found: Comparison) -> dict[str, Any]:
    assert found.likeness is not None
    off = found.likeness.off_path
    return {
        "decision": found.decision,
        "operations": {each.name: each.told for each in found.operations},
        "direction": found.direction,
        "aligned": round(found.likeness.aligned, 4),
        "off_path": None if off is None else round(off, 4),
    }


def kurtosis(nets: Nets, first: str, seeds: int) -> dict[str, Any]:
    """How often it is larger for what was tuned: a net and its tune, that tune and the next."""
    grown = [0, 0]
    for base in bases(first, FIRST_SEED + seeds)[FIRST_SEED:]:
        chain = [base, base.then("tune"), base.then("tune -> tune(corpus(seed=2))")]
        values = [attention_kurtosis(nets(each), range(2)) or 0.0 for each in chain]
        grown = [count + (values[at + 1] > values[at]) for at, count in enumerate(grown)]
    return {"of": seeds, "grown by tuning": grown[0], "grown by tuning again": grown[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineage-history.json"))
    options = parser.parse_args()
    nets = Nets(options.cache)
    document: dict[str, Any] = {"machine": describe_machine("cpu").model_dump(), "first_seed": FIRST_SEED}
    for family, first in SMALL.items():
        document[family] = {
            "kurtosis": kurtosis(nets, first, options.seeds),
            "pairs": derivatives(nets, first, count=2, strangers=options.seeds),
        }
        if family != "mixtral":
            document[family]["paths"] = paths(nets, family, range(FIRST_SEED, FIRST_SEED + 2))
        pairs = document[family]["pairs"]
        print(family, document[family]["kurtosis"], f"AUC {pairs['auc']:.3f}", pairs["missed"], flush=True)
        write_json(options.output, document)


if __name__ == "__main__":
    main()
