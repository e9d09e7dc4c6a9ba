"""Do intervals over victims cover what they say, and does `whorl bench diff` claim no more moves than it says?

Thousands of made-up benchmarks of few victims, of which the truth is known. A share: each victim has a rate of its own,
drawn from a beta distribution, and 22 models. An AUC: each victim's copies and independent models lie higher or lower
by a shift of its own, 21 and 22 scores of unit variance in all. ``alike`` is the share of the variance between victims.
Two ways of drawing an interval are held against each other: whole victims resampled (percentiles), and `over_victims`.

For the rule of `whorl bench diff` two runs of equal truth are drawn: of the same victims with other copies and
independent models, where everything that moves does so by chance, and of other victims altogether.

Run: python benchmarks/intervals.py [--runs 1000] [-o benchmarks/results/intervals.json]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from whorl.metrics import Interval, auc, difference_over_victims, over_victims, tpr_at_fpr
from whorl.storage import write_json

VICTIMS = (2, 3, 5, 8, 20)
ALIKE = (0.0, 0.1, 0.3, 0.5)
SHARES = (0.03, 0.5, 0.8, 0.95, 0.99)
AUCS = (0.6, 0.8, 0.95, 0.99)
COPIES, STRANGERS = 21, 22
RESAMPLES = 500

Draw = Callable[[np.random.Generator, int], tuple[list[float], list[float]]]
"""(generator, victims) -> the victims' figures in two runs of equal truth."""


def shares(truth: float, alike: float) -> Draw:
    """Two runs of the same victims, each of whom is accused at a rate of its own."""

    def draw(generator: np.random.Generator, victims: int) -> tuple[list[float], list[float]]:
        spread = 1 / alike - 1 if alike else 0
        rates = generator.beta(truth * spread, (1 - truth) * spread, victims) if alike else np.full(victims, truth)
        one, other = generator.binomial(STRANGERS, rates, (2, victims)) / STRANGERS
        return one.tolist(), other.tolist()

    return draw


def areas(truth: float, alike: float, statistic: Callable[[Any, Any], float] = auc) -> Draw:
    """Two runs of the same victims, whose copies lie higher by a shift of their own."""
    distance = float(norm.ppf(truth)) * 2**0.5

    def draw(generator: np.random.Generator, victims: int) -> tuple[list[float], list[float]]:
        shifts = distance + (2 * alike) ** 0.5 * generator.normal(size=victims)
        runs = [
            [
                statistic(shift + scatter(generator, alike, COPIES), scatter(generator, alike, STRANGERS))
                for shift in shifts
            ]
            for _ in range(2)
        ]
        return runs[0], runs[1]

    return draw


def scatter(generator: np.random.Generator, alike: float, count: int) -> Any:
    """Scores about a victim's own mean."""
    return (1 - alike) ** 0.5 * generator.normal(size=count)


def above_all(positives: Any, negatives: Any) -> float:
    """The share of copies above every independent model."""
    return tpr_at_fpr(positives, negatives, 0.0).rate


def resampled(values: list[float], generator: np.random.Generator) -> Interval:
    """Percentiles of the mean of victims that are drawn with replacement."""
    drawn = np.array(values)[generator.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(low), float(high))


def measured(draw: Draw, truth: float, victims: int, runs: int, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """What the intervals cover and how wide they are; and what is told to have moved though the truth did not.

    ``paired`` are two runs of the same victims, ``apart`` two intervals of other victims.
    """
    generator = np.random.default_rng(seed)
    trials = [min(COPIES, STRANGERS)] * victims
    covered = dict.fromkeys(("resampled", "over_victims", "resampled_width", "over_victims_width"), 0.0)
    moved = dict.fromkeys(("resampled", "paired", "apart"), 0)
    for _ in range(runs):
        (one, other), (strange, _) = draw(generator, victims), draw(generator, victims)
        ours, theirs = over_victims(one, trials).interval, over_victims(strange, trials).interval
        for way, of in (("resampled", resampled(one, generator)), ("over_victims", ours)):
            covered[way] += of.low - 1e-9 <= truth <= of.high + 1e-9
            covered[f"{way}_width"] += of.high - of.low
        moved["resampled"] += _outside(resampled(np.subtract(other, one).tolist(), generator))
        moved["paired"] += _outside(difference_over_victims(one, other, trials).interval)
        moved["apart"] += ours.low > theirs.high or theirs.low > ours.high
    return (
        {name: round(float(total) / runs, 4) for name, total in covered.items()},
        {name: round(count / runs, 4) for name, count in moved.items()},
    )


def _outside(change: Interval) -> bool:
    return change.low > 1e-9 or change.high < -1e-9


def settings() -> Iterator[tuple[str, float, float, Draw]]:
    """Every figure, its truth and how alike the models of one victim are."""
    for alike in ALIKE:
        yield from (("share", truth, alike, shares(truth, alike)) for truth in SHARES)
        yield from (("auc", truth, alike, areas(truth, alike)) for truth in AUCS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/intervals.json"))
    options = parser.parse_args()
    covered: list[dict[str, Any]] = []
    moved: list[dict[str, Any]] = []
    for victims in VICTIMS:
        for number, (figure, truth, alike, draw) in enumerate(settings()):
            about = {"victims": victims, "figure": figure, "truth": truth, "alike": alike}
            held, false = measured(draw, truth, victims, options.runs, number)
            covered.append(about | held)
            moved.append(about | false)
            if figure == "auc":
                tpr = measured(areas(truth, alike, above_all), 0.0, victims, options.runs, number)[1]
                moved.append(about | {"figure": "tpr"} | tpr)
        print(victims, covered[-1], moved[-1], flush=True)
    document = {"runs": options.runs, "copies": COPIES, "strangers": STRANGERS, "coverage": covered, "moves": moved}
    write_json(options.output, document)


if __name__ == "__main__":
    main()
