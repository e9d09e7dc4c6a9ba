"""What the grid saves by making queries once and asking each suspect once: model time, shared against alone.

    python benchmarks/sharing.py --cache CACHE -o benchmarks/results/sharing.json

For every sampler, on one victim and a few suspects of sacbench/tiny (models are built if need be): the seconds to make
queries and ask about them at each budget by itself, and those to do so once at the largest budget. Both are multiplied
by how often the whole grid does each. Alone, a fingerprint is still extracted once for all its suspects.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from whorl.bench.grid import Grid, count_of, plan, settings_of
from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.oracles.base import Oracle
from whorl.representations.base import ask
from whorl.schemes import SCHEMES
from whorl.storage import write_json
from whorl.suites.suite import SUITES
from whorl.zoo.cache import Zoo, default_cache

SUSPECTS = 4


def seconds_of(queries: str, budget: int, victim: Oracle, suspects: list[Oracle], data: str) -> tuple[float, float]:
    """Seconds to make the queries and get the victim's answers, and to ask one suspect."""
    scheme = SCHEMES.make(f"{queries}+scores+l2{settings_of(queries)}")
    pictures = SOURCES.make(data).load(scheme.part)
    started = time.perf_counter()
    made = scheme.extract(victim, pictures, budget=count_of(queries, budget), seed=0)
    extraction = time.perf_counter() - started
    started = time.perf_counter()
    for suspect in suspects:
        ask(suspect.scores, made.queries.inputs)
    return extraction, (time.perf_counter() - started) / len(suspects)


def totals(grid: Grid, folder: Path) -> dict[str, float]:
    """Model seconds of the whole grid, shared and alone."""
    zoo, suite = Zoo(folder), grid.suite
    suspects = [suspect for suspect in suite.suspects() if 0 in suspect.kinds and "classes" not in suspect.label]
    chosen = suspects[:: max(1, len(suspects) // SUSPECTS)][:SUSPECTS]
    zoo.build([suite.victims[0], *(suspect.recipe for suspect in chosen)])
    victim, asked = zoo.oracle(suite.victims[0]), [zoo.oracle(suspect.recipe) for suspect in chosen]
    meetings = sum(len(suspect.kinds) for suspect in suite.suspects())
    points: dict[str, int] = {}
    for name in grid.combinations:
        points[name.split("+")[0]] = points.get(name.split("+")[0], 0) + 1
    shared = alone = 0.0
    for queries, combinations in points.items():
        by_budget = {each: seconds_of(queries, each, victim, asked, suite.data) for each in grid.budgets}
        made, answered = by_budget[max(grid.budgets)]
        shared += len(grid.seeds) * (len(suite.victims) * made + meetings * answered)
        for making, answering in by_budget.values():
            alone += combinations * len(grid.seeds) * (len(suite.victims) * making + meetings * answering)
    return {"shared_seconds": round(shared, 1), "alone_seconds": round(alone, 1), "ratio": round(alone / shared, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "sharing.json")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    grid = plan(SUITES["sacbench/tiny"](), budgets=(50, 100, 200), seeds=3)
    runs = [totals(grid, arguments.cache) for _ in range(arguments.repeats)]
    document = {
        "what": "model seconds of the grid on sacbench/tiny, queries and answers shared against each combination alone",
        "combinations": len(grid.combinations),
        "budgets": grid.budgets,
        "seeds": len(grid.seeds),
        "cells": grid.cells,
        "runs": runs,
        "machine": describe_machine("cpu").model_dump(),
    }
    write_json(arguments.output, document)
    print(document)


if __name__ == "__main__":
    main()
