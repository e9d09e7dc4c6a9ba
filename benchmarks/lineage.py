"""Language models with known parents: who is found, by which test, and who is accused falsely.

    python benchmarks/lineage.py --cache CACHE [--large] [-o benchmarks/results/lineage.json]

Seeds begin at 100: those below 100 were looked at when thresholds and tests were chosen, and are not measured here.
For each architecture eight bases that differ in their seed alone (same text, same order), every derivative of
`whorl.zoo.lineages` of the first base, pairs that owe each other nothing, siblings (one initialisation, two orders of
the text), a net that took over the embedding, and nets that were distilled. Models are built once and kept in CACHE.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

from scipy.stats import kstest

from whorl.bench.result import describe_machine
from whorl.checkpoints.opening import open_checkpoint
from whorl.storage import write_json
from whorl.weights.comparison import Comparison, compare
from whorl.zoo.cache import Zoo, default_cache
from whorl.zoo.lineages import (
    DERIVATIVES,
    LARGE,
    PARTIAL,
    SMALL,
    UNFINDABLE,
    bases,
    derived,
    independent_pairs,
    siblings,
)
from whorl.zoo.recipe import Recipe

FIRST_SEED = 100


def row(found: Comparison) -> dict[str, Any]:
    return {
        "decision": found.decision,
        "exact": found.exact,
        "log10_p": round(found.log_p / math.log(10), 3),
        "tests": {each.test: round(each.log_p / math.log(10), 3) for each in found.findings},
        "related_layers": [place.layer for place in found.layers if place.related],
        "operations": [each.name for each in found.operations],
        "relation": found.relation,
        "direction": found.direction,
        "branch": None if found.branch is None else round(found.branch, 3),
    }


def strangers(apart: list[dict[str, Any]]) -> dict[str, Any]:
    """How often, and how surely, pairs that owe each other nothing would be accused."""
    logs = [each["log10_p"] for each in apart]
    return {
        "pairs": len(apart),
        "least_log10_p": min(logs),
        "below_.05": sum(each <= math.log10(0.05) for each in logs),
        "below_.01": sum(each <= -2 for each in logs),
        "log10_p": logs,
    }


class Pairs:
    """Comparisons of recipes, each model built at most once."""

    def __init__(self, zoo: Zoo) -> None:
        self.zoo = zoo
        self.seconds = 0.0
        self.count = 0

    def __call__(self, one: Recipe, two: Recipe) -> dict[str, Any]:
        """Build both, compare them, and keep the seconds of the comparison alone."""
        paths = self.zoo.build([one, two], workers=1)
        started = time.perf_counter()
        told = row(compare(*map(open_checkpoint, paths), layers=0))
        self.seconds += time.perf_counter() - started
        self.count += 1
        return told


def measured(first: str, zoo: Zoo, seeds: int) -> dict[str, Any]:
    nets = bases(first, FIRST_SEED + seeds)[FIRST_SEED:]
    groups = {"derived": DERIVATIVES, "partial": PARTIAL, "unfindable": UNFINDABLE}
    made = {group: derived(nets[0], steps) for group, steps in groups.items()}
    pairs = independent_pairs(nets)
    same = [net for seed in range(FIRST_SEED, FIRST_SEED + seeds) for net in siblings(first, seed=seed)]
    wanted = [*nets, *same, *(each for group in made.values() for each in group.values())]
    zoo.build([*wanted, *(each for pair in pairs for each in pair)])
    compared = Pairs(zoo)
    document: dict[str, Any] = {
        group: {name: compared(nets[0], recipe) for name, recipe in recipes.items()} for group, recipes in made.items()
    }
    document["twins"] = {
        str(seed): compared(*siblings(first, seed=seed)) for seed in range(FIRST_SEED, FIRST_SEED + seeds)
    }
    apart = [compared(*pair) for pair in pairs]
    document["independent"] = strangers(apart) | {"signs_ks_p": _uniform([each["tests"] for each in apart])}
    found = [each["log10_p"] for each in document["derived"].values()]
    document["summary"] = {
        "derivatives": len(found),
        "found_1e-6": sum(each < -6 for each in found),
        "missed": {name: each["log10_p"] for name, each in document["derived"].items() if each["log10_p"] >= -6},
        "descent": sum(each["relation"] == "descent" for each in document["derived"].values()),
        "B first, wrongly": [name for name, each in document["derived"].items() if each["direction"] == "B first"],
        "twins called descent": sum(each["relation"] == "descent" for each in document["twins"].values()),
        "twins called common ancestor": sum(
            each["relation"] == "common ancestor" for each in document["twins"].values()
        ),
        "seconds_each": compared.seconds / compared.count,
    }
    return document


def _uniform(tests: list[dict[str, float]]) -> dict[str, float]:
    """Kolmogorov-Smirnov against uniform p-values of the tests that are nearly continuous."""
    return {
        name: float(
            kstest([10 ** each[name] for each in tests if name in each], "uniform", alternative="greater").pvalue
        )
        for name in ("gated signs", "value signs")
        if any(name in each for each in tests)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--large", action="store_true", help="the larger nets instead of those of the tests")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--only", nargs="*", help="architectures, all by default")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineage.json"))
    options = parser.parse_args()
    tier = LARGE if options.large else SMALL
    document: dict[str, Any] = {
        "machine": describe_machine("cpu").model_dump(),
        "tier": "large" if options.large else "small",
    }
    document |= {"seeds": options.seeds, "first_seed": FIRST_SEED}
    for name in options.only or tier:
        document[name] = measured(tier[name], Zoo(options.cache), options.seeds)
        print(name, document[name]["summary"], document[name]["independent"]["least_log10_p"], flush=True)
        write_json(options.output, document)


if __name__ == "__main__":
    main()
