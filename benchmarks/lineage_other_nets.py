"""Do the tests keep their error rates on nets with tables, masks, banks, axes of time? Over 1,000 pairs of strangers.

    python benchmarks/lineage_other_nets.py [--nets 13] [-o benchmarks/results/lineage-other-nets.json]

Tiny nets of `lineage_other_kinds.py`, each trained until its loss falls, on the same data in the same order: what they
share is all that strangers may share. Each net is paired with every other one of its kind. Pairs that share a net are
not independent, so that intervals are over nets (jackknife); where no pair is at or below a level, the upper end is
that of as many disjoint pairs.
"""

from __future__ import annotations

import argparse
import math
import time
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lineage_other_kinds import KINDS, train
from lineage_size import LEVELS, rate
from safetensors.torch import save_file

from whorl.bench.result import describe_machine
from whorl.detection.exact import bonferroni
from whorl.storage import write_json
from whorl.weights.comparison import Comparison, compare

Pairs = dict[tuple[int, int], float]


def interval(pairs: Pairs, level: float, nets: int) -> dict[str, float]:
    """Share of pairs at or below a level; ``nets`` are numbered from 0."""
    if any(all(net in pair for pair in pairs) for net in range(nets)):  # one net is in all: nothing to leave out
        return {"rate": sum(p <= level for p in pairs.values()) / len(pairs), "low": 0.0, "high": 1.0}
    found = rate(pairs, level, nets)
    return found if found["rate"] else found | {"high": 1 - 0.025 ** (1 / (nets // 2))}


def told(pairs: Pairs) -> dict[str, Any]:
    places = {net: place for place, net in enumerate(sorted({net for pair in pairs for net in pair}))}
    held = {(places[one], places[two]): p for (one, two), p in pairs.items()}
    figures = {f"at {level}": interval(held, level, len(places)) for level in LEVELS}
    return {"pairs": len(pairs), "nets": len(places), **figures, "smallest": min(pairs.values())}


def save(path: Path, kind: str, seed: int) -> tuple[float, float]:
    """Train a net and keep all that its state holds. Returns the loss at the start and at the end."""
    net, first, last = train(kind, seed)
    state = {name: value.detach().clone().contiguous() for name, value in net.state_dict().items() if value.numel()}
    save_file(state, path)
    return first, last


def p_values(found: Comparison) -> dict[str, float]:
    tests: dict[str, list[float]] = {}
    for each in found.findings:
        if each.decides:
            tests.setdefault(each.test, []).append(each.log_p)
    exact = [each.log_p for each in found.findings if each.exact]
    values = {name: math.exp(bonferroni(logs)) for name, logs in tests.items()}
    values |= {"whole": math.exp(found.log_p)} if found.tested else {}
    return values | ({"exact tests": math.exp(bonferroni(exact))} if exact else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=13)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineage-other-nets.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    document: dict[str, Any] = {"machine": describe_machine("cpu").model_dump(), "nets": options.nets, "kinds": {}}
    whole: dict[str, Pairs] = {}
    for number, kind in enumerate(KINDS):
        started = time.perf_counter()
        with TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{seed}.safetensors" for seed in range(options.nets)]
            losses = [save(path, kind, 6000 + seed) for seed, path in enumerate(paths)]
            tests: dict[str, Pairs] = {}
            shares: list[float] = []
            untested = 0
            for one, two in combinations(range(options.nets), 2):
                found = compare(paths[one], paths[two], layers=0)
                shares.append(found.coverage[0].tested)
                untested += not found.tested
                for name, p in p_values(found).items():
                    tests.setdefault(name, {})[number * options.nets + one, number * options.nets + two] = p
        for name, pairs in tests.items():
            whole.setdefault(name, {}).update(pairs)
        first, last = (sum(each) / len(losses) for each in zip(*losses, strict=True))
        document["kinds"][kind] = {
            "loss": [first, last],
            "untested pairs": untested,
            "numbers tested": sum(shares) / len(shares),
            "tests": {name: told(pairs) for name, pairs in tests.items()},
            "seconds": time.perf_counter() - started,
        }
        print(kind, {key: value for key, value in document["kinds"][kind].items() if key != "tests"}, flush=True)
        for name, figures in document["kinds"][kind]["tests"].items():
            print("   ", name, figures["smallest"], *(figures[f"at {level}"]["rate"] for level in LEVELS), flush=True)
        document["all"] = {name: told(pairs) for name, pairs in whole.items()}
        write_json(options.output, document)
    for name, figures in document["all"].items():
        print(name, figures, flush=True)


if __name__ == "__main__":
    main()
