"""How many queries does a verdict take, and how many would a fixed-size test of the same error need?

For each removal of the digits suite and each of ten orders: ask one query after the other until the sequential test
says derived. The fixed-size test asks n random queries of the fingerprint and says derived when the matches exceed
the (1 - error) quantile of the hypergeometric law at the null's threshold; its n is the smallest with a power of one
half on that copy, so that both numbers are medians.

Run after `whorl demo`: python benchmarks/sequential.py [-o benchmarks/results/sequential.json]
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from scipy.stats import hypergeom

from whorl.bench.result import describe_machine
from whorl.bench.runner import run
from whorl.data import SOURCES
from whorl.detection.population import plan
from whorl.detection.verdict import Trial
from whorl.schemes import SCHEMES
from whorl.storage import write_json
from whorl.suites.suite import SUITES
from whorl.zoo.cache import Zoo, default_cache

ALPHA, ORDERS = 0.05, 200


def fixed_size(size: int, threshold: float, matches: int, error: float) -> int | None:
    """Smallest n at which a test on n queries has error at most ``error`` and power at least one half."""
    under_null = round(threshold * size)
    for count in range(1, size + 1):
        critical = int(hypergeom.isf(error, size, under_null, count)) + 1
        if hypergeom.sf(critical - 1, size, matches, count) >= 0.5:
            return count
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/sequential.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    suite, folder = SUITES["ipguard/digits"](), default_cache()
    run(suite, folder=folder, schemes="ipguard,akh")
    zoo, victim = Zoo(folder), suite.victims[0]
    rows = []
    for column in ("ipguard", "akh"):
        scheme = SCHEMES.make(suite.schemes[column])
        data = SOURCES.make(suite.data).load(scheme.part)
        fingerprint = scheme.extract(zoo.oracle(victim), data, budget=suite.budget_of(column))
        null = {str(recipe): zoo.oracle(recipe) for recipe in suite.null}
        fingerprint = scheme.calibrate(fingerprint, null, pool="the suite's null")
        assert fingerprint.calibration is not None
        size = len(fingerprint.queries)
        rule = plan(fingerprint.calibration.null.similarities, alpha=ALPHA)
        for row in suite.derived:
            values = scheme.observe(fingerprint, zoo.oracle(victim.then(row.removal))).per_query
            assert values is not None
            generator = torch.Generator().manual_seed(0)
            spent: list[int] = []
            derived = 0
            for _ in range(ORDERS):
                trial = Trial(fingerprint.calibration, size=size, alpha=ALPHA)
                for value in values[torch.randperm(size, generator=generator)].split(1):
                    trial.update(value)
                    if trial.settled:
                        break
                spent.append(trial.asked)
                derived += trial.derived
            rows.append(
                {
                    "scheme": column,
                    "removal": row.label,
                    "beyond_the_paper": row.beyond,
                    "match": float(values.mean()),
                    "threshold": rule.threshold,
                    "derived_share": derived / ORDERS,
                    "median_queries": statistics.median(spent),
                    "fixed_size_queries": fixed_size(
                        size, rule.threshold, round(float(values.sum())), rule.sampling_error
                    ),
                    "size": size,
                }
            )
            print(rows[-1], flush=True)
    weakest = {
        column: max(
            int(row["fixed_size_queries"]) for row in rows if row["scheme"] == column and not row["beyond_the_paper"]
        )
        for column in ("ipguard", "akh")
    }
    about = {
        "fixed_size_for_the_weakest": weakest,
        "alpha": ALPHA,
        "sampling_error": rule.sampling_error,
        "rank": rule.rank,
        "orders": ORDERS,
    }
    write_json(options.output, {**about, "machine": describe_machine("cpu").model_dump(), "rows": rows})


if __name__ == "__main__":
    main()
