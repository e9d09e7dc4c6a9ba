"""Do the exact tests keep their error rates on trained nets? More than 1,000 pairs that owe each other nothing.

    python benchmarks/lineage_size.py --cache CACHE [-o benchmarks/results/lineage-size.json]

46 seeds of one configuration on the same text in the same order make 1,035 pairs. Pairs that share a net are not
independent, so the interval of a rate is taken over seeds: by leaving out each seed once (jackknife).
"""

from __future__ import annotations

import argparse
import math
from itertools import combinations
from pathlib import Path
from typing import Any

from scipy.stats import kstest

from whorl.bench.result import describe_machine
from whorl.storage import write_json
from whorl.weights.comparison import compare
from whorl.weights.findings import about
from whorl.zoo.cache import Zoo, default_cache
from whorl.zoo.recipe import parse_recipe
from whorl.zoo.steps import LANGUAGE

LEVELS = (0.05, 0.01)


def rate(pairs: dict[tuple[int, int], float], level: float, seeds: int) -> dict[str, float]:
    """Share of pairs at or below a level, with the jackknife's 95 % interval over seeds."""
    hit = {pair: p <= level for pair, p in pairs.items()}
    whole = sum(hit.values()) / len(hit)
    without = [[value for pair, value in hit.items() if seed not in pair] for seed in range(seeds)]
    means = [sum(each) / len(each) for each in without]
    middle = sum(means) / seeds
    error = math.sqrt((seeds - 1) / seeds * sum((mean - middle) ** 2 for mean in means))
    return {"rate": whole, "low": max(0.0, whole - 1.96 * error), "high": whole + 1.96 * error}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--seeds", type=int, default=46)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineage-size.json"))
    options = parser.parse_args()
    document: dict[str, Any] = {"machine": describe_machine("cpu").model_dump(), "seeds": options.seeds}
    for family in ("llama", "gpt2", "mixtral"):
        texts = [f"pretrain({family}, steps=100, seed={1000 + seed})" for seed in range(options.seeds)]
        paths = Zoo(options.cache).build([parse_recipe(text, kind=LANGUAGE) for text in texts])
        tests: dict[str, dict[tuple[int, int], float]] = {}
        for one, two in combinations(range(options.seeds), 2):
            found = compare(paths[one], paths[two], layers=0)
            for each in found.findings:
                tests.setdefault(each.test, {})[one, two] = math.exp(each.log_p)
            tests.setdefault("whole", {})[one, two] = math.exp(found.log_p)
        document[family] = {
            name: {
                "exact": name != "whole" and about(name).exact,
                "pairs": len(pairs),
                **{f"at {level}": rate(pairs, level, options.seeds) for level in LEVELS},
                "smallest": min(pairs.values()),
                "ks_p": float(kstest(list(pairs.values()), "uniform", alternative="greater").pvalue),
            }
            for name, pairs in tests.items()
        }
        for name, told in document[family].items():
            print(family, name, told, flush=True)
        write_json(options.output, document)


if __name__ == "__main__":
    main()
