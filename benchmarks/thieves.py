"""Why label extraction is told so differently here than in SACBench: the same thieves, one condition changed at a time.

    python benchmarks/thieves.py --cache CACHE -o benchmarks/results/thieves.json

Only the label rows of sacbench/tiny change: whose pictures the thief asks about, and for how long it learns. Victims,
irrelevant models, queries and the six points of `qurd.py` stay. `ratio` is how often a thief's labels differ from its
victim's on test pictures, over how often those of irrelevant models do (1: no nearer than a stranger); SACBench has
.147 / .188 = .78 (labels) and .122 / .188 = .65 (softened logits) by the authors' released scores of QuRD.
`against` holds the same thieves against one kind of irrelevant models at a time.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from qurd import BUDGET, POINTS

from whorl.bench.grid import Grid, GridCells, plan, run_grid
from whorl.bench.grid_result import figures
from whorl.bench.quality import measure_quality
from whorl.bench.result import describe_machine
from whorl.metrics import tpr_at_fpr
from whorl.storage import write_json
from whorl.suites.suite import SUITES, Derived, Suite
from whorl.zoo.cache import default_cache

THIEVES = {
    "as in the suite": "",
    "the victim's own pictures": ", part=victim",
    "three times as long": ", epochs=60",
    "both": ", part=victim, epochs=60",
}


def varied() -> Suite:
    """sacbench/tiny with nothing but label thieves, once for each condition."""
    suite = SUITES["sacbench/tiny"]()
    labels = [row for row in suite.derived if row.group == "label"]
    rows = []
    for group, change in THIEVES.items():
        for row in labels:
            removal = row.removal.replace(", epochs=20", "") if "epochs" in change else row.removal
            rows.append(Derived(f"{group}, {row.label}", f"{removal.removesuffix(')')}{change})", group=group))
    return replace(suite, derived=tuple(rows))


def against(grid: Grid, cells: GridCells, thieves: str, negatives: str, point: str) -> float:
    """TPR at a false-positive rate of at most .05 against one kind of irrelevant models, mean of victims and seeds."""
    rates = []
    for victim in range(len(grid.suite.victims)):
        for seed in grid.seeds:
            scores = {
                group: [
                    cells.similarities[victim, place][point][BUDGET][seed]
                    for place, suspect in enumerate(cells.suspects)
                    if suspect.group == group and victim in suspect.kinds
                ]
                for group in (thieves, negatives)
            }
            rates.append(tpr_at_fpr(scores[thieves], scores[negatives], 0.05).rate)
    return sum(rates) / len(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/thieves.json"))
    options = parser.parse_args()
    grid = plan(varied(), schemes=",".join(POINTS.values()), budgets=(BUDGET,), seeds=3)
    started = time.perf_counter()
    cells = run_grid(grid, folder=options.cache)
    seconds = time.perf_counter() - started
    result = figures(grid, cells, command="python benchmarks/thieves.py", wall_seconds=seconds)
    quality = measure_quality(grid.suite, folder=options.cache)
    apart = [pair.hamming for pair in quality.pairs if pair.kind == "independent"]
    columns: dict[str, Any] = {}
    for group in THIEVES:
        near = [pair.hamming for pair in quality.pairs if pair.group == group]
        columns[group] = {
            "ratio": (sum(near) / len(near)) / (sum(apart) / len(apart)),
            "tpr": {name: result.of(point, BUDGET, group).tpr for name, point in POINTS.items()},
            "against": {
                kind: {name: against(grid, cells, group, kind, point) for name, point in POINTS.items()}
                for kind in grid.suite.independents
            },
        }
        print(group, columns[group])
    write_json(options.output, {"machine": describe_machine("cpu").model_dump(), "budget": BUDGET, "thieves": columns})


if __name__ == "__main__":
    main()
