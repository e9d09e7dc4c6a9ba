"""What is a tie of k classes worth, in queries to a verdict?

On the digits suite (its victim, its removals, its null of 99 independent nets): fingerprints of 100 probes around ties
of k = 2, 3, 5 and 10 classes, three extractions each, and IPGuard's points for comparison. Each copy is judged as
verification does, one query after the other at alpha = .05, in 50 random orders; the table gives the median of the
queries asked until the test says derived, over orders and extractions, where most of them do.

Run: python benchmarks/multipoint.py [--cache FOLDER] [-o benchmarks/results/multipoint.json]
Models that the cache lacks (`whorl demo` builds them) are trained first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.detection.population import plan
from whorl.detection.verdict import Trial
from whorl.metrics import auc
from whorl.oracles.base import Oracle
from whorl.schemes import SCHEMES
from whorl.storage import write_json
from whorl.suites.suite import SUITES, Derived
from whorl.types import Calibration, Null, NullModel
from whorl.zoo.cache import Zoo, default_cache

ALPHA, ORDERS, SEEDS, BUDGET = 0.05, 50, (0, 1, 2), 100
COLUMNS = {f"k={ties}": f"multipoint(ties={ties})" for ties in (2, 3, 5, 10)} | {"ipguard": "ipguard(margin=10)"}

Table = tuple[dict[str, Any], list[dict[str, Any]]]


def judge(null: Sequence[float], values: Tensor | None) -> tuple[list[int], int]:
    """Queries asked in each order, and how many orders end in derived."""
    assert values is not None
    models = tuple(NullModel(str(i)) for i in range(len(null)))
    calibration = Calibration(Null(pool="the suite's null", models=models, similarities=tuple(null)))
    generator = torch.Generator().manual_seed(0)
    spent: list[int] = []
    derived = 0
    for _ in range(ORDERS):
        trial = Trial(calibration, size=len(values), alpha=ALPHA)
        for value in values[torch.randperm(len(values), generator=generator)].split(1):
            trial.update(value)
            if trial.settled:
                break
        spent.append(trial.asked)
        derived += trial.derived
    return spent, derived


def measure(column: str, null: list[Oracle], suspects: dict[Derived, Oracle], owner: Oracle, data: str) -> Table:
    """One line about a scheme, and one for each removal."""
    scheme = SCHEMES.make(COLUMNS[column])
    seeds = SOURCES.make(data).load(scheme.part)
    started = time.process_time()
    prints = [scheme.extract(owner, seeds, budget=BUDGET, seed=seed) for seed in SEEDS]
    seconds = (time.process_time() - started) / len(SEEDS)
    pools = [[scheme.observe(each, oracle).similarity for oracle in null] for each in prints]
    rows: list[dict[str, Any]] = []
    matches: list[list[float]] = []
    for row, suspect in suspects.items():
        evidence = [scheme.observe(each, suspect) for each in prints]
        judged = [judge(pool, found.per_query) for pool, found in zip(pools, evidence, strict=True)]
        share = sum(derived for _, derived in judged) / (ORDERS * len(SEEDS))
        asked = statistics.median(count for spent, _ in judged for count in spent)
        match = [found.similarity for found in evidence]
        matches += [] if row.beyond else [match]
        rows.append(
            {
                "column": column,
                "removal": row.label,
                "beyond_the_paper": row.beyond,
                "match": statistics.mean(match),
                "derived_share": share,
                "median_queries": asked if share > 0.5 else None,
            }
        )
    ours = [row for row in rows if not row["beyond_the_paper"]]
    summary = {
        "column": column,
        "scheme": str(scheme),
        "null_mean": statistics.mean(value for pool in pools for value in pool),
        "null_max": max(max(pool) for pool in pools),
        "threshold": statistics.mean(plan(pool, alpha=ALPHA).threshold for pool in pools),
        "auc": statistics.mean(
            auc(copies, pool) for copies, pool in zip(zip(*matches, strict=True), pools, strict=True)
        ),
        "derived_share": statistics.mean(row["derived_share"] for row in ours),
        "converged": statistics.mean(float(each.queries.notes["converged"]) for each in prints),
        "extraction_processor_seconds": round(seconds, 1),
    }
    return summary, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/multipoint.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    suite, zoo = SUITES["ipguard/digits"](), Zoo(options.cache)
    victim = suite.victims[0]
    zoo.build([victim, *suite.null, *(victim.then(row.removal) for row in suite.derived)])
    null = [zoo.oracle(recipe) for recipe in suite.null]
    suspects = {row: zoo.oracle(victim.then(row.removal)) for row in suite.derived}
    started = time.process_time()
    columns: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for column in COLUMNS:
        summary, found = measure(column, null, suspects, zoo.oracle(victim), suite.data)
        columns.append(summary)
        rows += found
        print(summary, flush=True)
    everywhere = [
        row.label
        for row in suite.derived
        if all(found["median_queries"] is not None for found in rows if found["removal"] == row.label)
    ]
    for summary in columns:
        asked = [row["median_queries"] for row in rows if row["column"] == summary["column"]]
        common = [row for row in rows if row["column"] == summary["column"] and row["removal"] in everywhere]
        summary["median_queries"] = statistics.median(row["median_queries"] for row in common)
        summary["most_queries"] = max(row["median_queries"] for row in common)
        summary["removals_caught"] = sum(count is not None for count in asked)
    about = {
        "about": "queries to a verdict by the number of classes that meet at the probed points",
        "suite": suite.name,
        "alpha": ALPHA,
        "null": len(null),
        "queries": BUDGET,
        "extractions": len(SEEDS),
        "orders": ORDERS,
        "removals_caught_by_all": everywhere,
        "processor_seconds": round(time.process_time() - started, 1),
    }
    machine = describe_machine("cpu").model_dump()
    write_json(options.output, {**about, "machine": machine, "columns": columns, "rows": rows})


if __name__ == "__main__":
    main()
