"""Our tiny suites beside the tables of QuRD (Godinot et al., AAAI 2025): cell by cell, and whether the order agrees.

    whorl bench grid sacbench/tiny -o benchmarks/results/grid-sacbench-tiny.json
    whorl bench grid modelreuse/tiny --seeds 2 --budgets 100 --schemes "$(python benchmarks/qurd.py --points)" \
        -o benchmarks/results/grid-modelreuse-tiny.json
    python benchmarks/qurd.py -o benchmarks/results/qurd.json

Published figures are TPR at a false-positive rate of 5 % with 100 inputs, recomputed from the authors' released scores.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scipy.stats import kendalltau, spearmanr

from whorl.bench.grid_result import ALL, GridResult, read_grid
from whorl.storage import write_json

RESULTS = Path(__file__).parent / "results"
BUDGET = 100
POINTS = {
    "AKH": "negative+labels+hamming",
    "IPGuard": "boundary+labels+hamming",
    "ModelDiff": "adversarial+ddv+cosine",
    "Random": "random+labels+hamming",
    "SAC": "train-negative-augment+sac+l2",
    "Zest": "random-subsample+lime+l2",
}
# Rows in the order of POINTS. SAC has no figure on Flowers: its victims make no training errors to mix.
SACBENCH = {
    "probit": (1, 0.31, 0.56, 0.44, 1, 0.91),
    "label": (0.99, 0.25, 0.31, 0.13, 1, 0.41),
    "adv-label": (0.92, 0.02, 0.16, 0.06, 1, 0.24),
    "fine-prune": (1, 1, 1, 0.92, 1, 1),
    "fine-tune": (1, 1, 1, 1, 1, 0.98),
    ALL: (0.98, 0.468, 0.567, 0.424, 1, 0.640),
}
FLOWERS = {
    "prune": (0.87, 0.82, 0.86, 0.49, None, 0.71),
    "distil": (0.62, 0.70, 0.48, 0.38, None, 0.65),
    "quantise": (1, 1, 1, 0.87, None, 1),
    "steal": (0.18, 0.01, 0.10, 0.06, None, 0.34),
    ALL: (0.722, 0.657, 0.671, 0.504, None, 0.692),
}
DOGS = {
    "prune": (0.87, 1, 0.97, 0.72, 0.83, 0.87),
    "distil": (0.72, 0.90, 0.72, 0.52, 0.62, 0.65),
    "quantise": (1, 1, 1, 1, 1, 1),
    "steal": (0.21, 0.10, 0.02, 0.02, 0.19, 0.35),
    ALL: (0.741, 0.779, 0.727, 0.621, 0.706, 0.764),
}


def beside(result: GridResult, published: dict[str, tuple[float | None, ...]]) -> dict[str, Any]:
    """Per column: our figure and theirs for each scheme, and the rank correlations of the schemes."""
    columns: dict[str, Any] = {}
    for group, theirs in published.items():
        try:
            ours = [result.of(point, BUDGET, group).tpr for point in POINTS.values()]
        except KeyError:
            continue  # no copy of that group kept its accuracy
        both = [(mine, other) for mine, other in zip(ours, theirs, strict=True) if other is not None]
        columns[group] = {
            "schemes": {
                name: {"ours": mine, "published": other} for name, mine, other in zip(POINTS, ours, theirs, strict=True)
            },
            "spearman": _correlation(spearmanr, both),
            "kendall": _correlation(kendalltau, both),
        }
    return columns


def _correlation(statistic: Any, pairs: list[tuple[float, float]]) -> float | None:
    """None where one side is constant, so that there is no order to agree with."""
    ours, theirs = zip(*pairs, strict=True)
    if len(set(ours)) == 1 or len(set(theirs)) == 1:
        return None
    return round(float(statistic(ours, theirs).statistic), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "qurd.json")
    parser.add_argument("--points", action="store_true", help="print the six points of the grid and end")
    arguments = parser.parse_args()
    if arguments.points:
        print(",".join(POINTS.values()))
        return
    tables = {
        "sacbench/tiny beside SACBench": ("grid-sacbench-tiny.json", SACBENCH),
        "modelreuse/tiny beside Flower102": ("grid-modelreuse-tiny.json", FLOWERS),
        "modelreuse/tiny beside SDog120": ("grid-modelreuse-tiny.json", DOGS),
    }
    document: dict[str, Any] = {"what": "TPR at a false-positive rate of at most .05, 100 inputs"}
    for title, (file, published) in tables.items():
        if (RESULTS / file).is_file():
            document[title] = beside(read_grid(RESULTS / file), published)
    write_json(arguments.output, document)
    for title, columns in list(document.items())[1:]:
        print(title)
        for group, column in columns.items():
            cells = [f"{name} {each['ours']:.2f} ({each['published']})" for name, each in column["schemes"].items()]
            print(f"  {group}: rank correlation {column['spearman']}; " + ", ".join(cells))


if __name__ == "__main__":
    main()
