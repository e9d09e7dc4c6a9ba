"""Which merges `whorl lineage` finds, with which parents and coefficients, and which nets it takes for merges wrongly.

    python benchmarks/lineage_merges.py --cache CACHE [-o benchmarks/results/lineage-merges.json]

Seeds begin at 400: thresholds were chosen on 300 to 307. A family is a base, tunes of it on three texts, further tunes
on the same text, tunes of tunes, low-rank tunes, what was made of these, a net of the same initialisation and a
stranger. It is a folder once by itself and once with each merge; the merges of two tunes have tunes of a third text, of
both texts in turns, and of one after the other beside them. Models are built once and kept in CACHE.
"""

from __future__ import annotations

import argparse
import resource
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from whorl.bench.result import describe_machine
from whorl.storage import write_json
from whorl.weights.family.cells import Memory
from whorl.weights.family.planting import Edge
from whorl.weights.family.tree import lineage
from whorl.zoo.cache import Zoo, default_cache
from whorl.zoo.recipe import parse_recipe
from whorl.zoo.steps import LANGUAGE

FIRST_SEED = 400
ARCHITECTURES = ("llama", "gpt2", "neox", "mixtral", "llama", "gpt2", "neox", "mixtral")
ONE, TWO, THREE = "tune", "tune(corpus(seed=2))", "tune(corpus(seed=3))"
PLAIN = {
    "base": "",
    "one": ONE,
    "two": TWO,
    "three": THREE,
    "one again": "tune(order=1)",
    "one longer": "tune(steps=200)",
    "one then two": f"{ONE} -> {TWO}",
    "two then one": f"{TWO} -> {ONE}",
    "one then four": f"{ONE} -> tune(corpus(seed=4))",
    "in turns": "tune(steps=30) -> tune(corpus(seed=2), steps=30) -> tune(steps=30, order=1)"
    " -> tune(corpus(seed=2), steps=30, order=1)",
    "low rank, one": "lora",
    "low rank, two": "lora(corpus(seed=2))",
    "one, int4": f"{ONE} -> quantise(bits=4)",
    "two, half pruned": f"{TWO} -> prune_weights(1/2)",
}
MERGES = {
    "linear": "weight=1/2",
    "linear, a quarter": "weight=1/4",
    "slerp": "method=slerp",
    "ties": "method=ties",
    "ties, a quarter": "method=ties, weight=1/4",
    "ties, density 0.2": "method=ties, density=0.2",
    "dare": "method=dare",
    "dare, density 0.2": "method=dare, density=0.2",
}
TUNED = ("linear", "ties", "dare")
LATER = {"tuned on another text": "tune(corpus(seed=5))", "tuned on a parent's text": "tune(steps=50, order=2)"}


def plain(architecture: str, seed: int) -> dict[str, str]:
    """Recipes of a family without merges, by name."""
    first = f"pretrain({architecture}, steps=250, seed={seed})"
    made = {name: _then(first, steps) for name, steps in PLAIN.items()}
    others = {
        "twin": f"pretrain({architecture}, steps=250, seed={seed}, order=1)",
        "stranger": f"pretrain({architecture}, steps=250, seed={seed + 1_000_003})",
    }
    return made | others | {f"{name}, one": _then(text, ONE) for name, text in others.items()}


def merged(architecture: str, seed: int) -> dict[str, str]:
    """Recipes of its merges, by name."""
    first = f"pretrain({architecture}, steps=250, seed={seed})"
    made = {name: f'{first} -> {ONE} -> merge("base -> {TWO}", {how})' for name, how in MERGES.items()}
    later = {f"{name}, {what}": _then(made[name], steps) for what, steps in LATER.items() for name in TUNED}
    return made | {"three parents": f'{made["linear"]} -> merge("base -> {THREE}", weight=1/3)'} | later


def _then(first: str, steps: str) -> str:
    return f"{first} -> {steps}" if steps else first


def parents(nets: Mapping[str, Path], cells: Memory) -> dict[str, list[Edge]]:
    """The steps to every net that the folder of these nets shows as a merge."""
    with TemporaryDirectory() as folder:
        for name, path in nets.items():
            (Path(folder) / name).symlink_to(path)
        steps = [edge for family in lineage(Path(folder), cells=cells).families for edge in family.edges]
    found: dict[str, list[Edge]] = {}
    for edge in steps:
        if edge.share is not None:
            found.setdefault(edge.child, []).append(edge)
    return found


def told(edges: Iterable[Edge]) -> dict[str, Any]:
    edges = list(edges)
    return {
        "parents": {edge.parent: round(edge.share or 0, 3) for edge in edges},
        "null": round(max(edge.null or 0 for edge in edges), 4),
        "unexplained": round(edges[0].unexplained or 0, 3),
        "ancestor": edges[0].ancestor,
    }


def measured(architecture: str, seed: int, cache: Path) -> dict[str, Any]:
    ours, made = plain(architecture, seed), merged(architecture, seed)
    recipes = [parse_recipe(text, kind=LANGUAGE) for text in (*ours.values(), *made.values())]
    paths = dict(zip([*ours, *made], Zoo(cache).build(recipes, workers=1), strict=True))
    alone, cells = {name: paths[name].absolute() for name in ours}, Memory()
    wrong = {name: told(edges) for name, edges in parents(alone, cells).items()}
    found: dict[str, Any] = {}
    for name in made:
        edges = parents(alone | {name: paths[name].absolute()}, cells)
        right = {"one", "two"} | ({"three"} if name == "three parents" else set())
        found[name] = (
            (told(edges[name]) | {"right": {edge.parent for edge in edges[name]} == right}) if name in edges else None
        )
    return {
        "architecture": architecture,
        "seed": seed,
        "nets": len(ours),
        "called merges wrongly": wrong,
        "merges": found,
    }


def summary(families: list[dict[str, Any]]) -> dict[str, Any]:
    wrong = Counter(name for family in families for name in family["called merges wrongly"])
    kinds: dict[str, Any] = {}
    for name in families[0]["merges"]:
        found = [each for family in families if (each := family["merges"][name])]
        right = [each for each in found if each["right"]]
        kinds[name] = {
            "of": len(families),
            "called a merge": len(found),
            "right parents": len(right),
            "coefficients": {
                parent: round(fmean(each["parents"][parent] for each in right), 3)
                for parent in (right[0]["parents"] if right else ())
            },
            "unexplained": round(fmean(each["unexplained"] for each in right), 3) if right else None,
        }
    return {
        "no merges": sum(family["nets"] for family in families),
        "called merges wrongly": sum(wrong.values()),
        "which": dict(wrong),
        "merges": kinds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineage-merges.json"))
    options = parser.parse_args()
    families = []
    for place, architecture in enumerate(ARCHITECTURES):
        families.append(measured(architecture, options.first_seed + place, options.cache))
        document = {"machine": describe_machine("cpu").model_dump(), "first_seed": options.first_seed}
        used = resource.getrusage(resource.RUSAGE_SELF)
        document |= {"cpu_seconds": round(used.ru_utime + used.ru_stime, 1)}
        write_json(options.output, document | {"summary": summary(families), "families": families})
        print(
            architecture,
            families[-1]["seed"],
            document["cpu_seconds"],
            families[-1]["called merges wrongly"],
            flush=True,
        )


if __name__ == "__main__":
    main()
