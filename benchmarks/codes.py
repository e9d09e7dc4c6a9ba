"""Who is traced, and who is accused falsely, by codes of users.

    python benchmarks/codes.py -o benchmarks/results/codes.json

Tardos codes: for each row of `CODES` and each strategy of colluders ``--trials`` fresh codes; accused are those whose
p-value, by Holm over all users, is at most .01. `traced` counts trials with at least one guilty accused, `framed` those
with at least one innocent. Block codes: every set of at most k - 1 users by the AND and by the mean of their rows
(of 31 users 206,367), then drawn sets of k - 1 under every strategy. No code or trial served in the choice of a length.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from whorl.bench.result import describe_machine
from whorl.detection.codes import DESIGNS, TardosPlan, block_code
from whorl.detection.collusion import STRATEGIES, collude
from whorl.detection.tracing import named_by_and, trace
from whorl.metrics import clopper_pearson
from whorl.storage import write_json

ALPHA = 0.01
CODES = {
    "31 users, 5 colluders": TardosPlan(31, 5),
    "100 users, 3 colluders": TardosPlan(100, 3),
    "100 users, 5 colluders": TardosPlan(100, 5),
    "1,000 users, 3 colluders": TardosPlan(1000, 3),
    "100 users, 3 colluders, half of the length": TardosPlan(100, 3, positions=256),
    "100 users, 3 colluders, a quarter of the length": TardosPlan(100, 3, positions=128),
    "100 users, 3 colluders, of whom there are 6": TardosPlan(100, 3),
}


def share(count: int, trials: int) -> dict[str, float]:
    bounds = clopper_pearson(count, trials)
    return {"count": count, "trials": trials, "rate": count / trials, "low": bounds.low, "high": bounds.high}


def tardos(name: str, plan: TardosPlan, trials: int) -> dict[str, Any]:
    guilty = set(range(6 if name.endswith("6") else plan.colluders))
    strategies: dict[str, Any] = {}
    for number, strategy in enumerate(STRATEGIES):
        chance = np.random.default_rng([list(CODES).index(name), number])
        traced = framed = caught = 0
        for _ in range(trials):
            code = plan.sampled(chance)
            found = set(trace(collude(code.rows[: len(guilty)], strategy, chance), code, ALPHA).accused)
            traced, framed, caught = (
                traced + bool(found & guilty),
                framed + bool(found - guilty),
                caught + len(found & guilty),
            )
        strategies[strategy] = {
            "traced": share(traced, trials),
            "framed": share(framed, trials),
            "guilty_accused": caught / trials / len(guilty),
        }
        print(name, strategy, strategies[strategy], flush=True)
    framed = sum(each["framed"]["count"] for each in strategies.values())
    return {
        "users": plan.users,
        "colluders": len(guilty),
        "positions": plan.length,
        "strategies": strategies,
        "framed_under_all": share(framed, trials * len(strategies)),
    }


def blocks(positions: int, trials: int) -> dict[str, Any]:
    chance = np.random.default_rng(positions)
    code = block_code(positions, positions, chance)
    rows = [int("".join(map(str, row)), 2) for row in code.rows]
    sets = wrong = 0
    for guilty in subsets(positions, code.colluders):
        both = (1 << positions) - 1
        for user in guilty:
            both &= rows[user]
        # The mean is above 1 - 1 / (2 (k - 1)) where all have a 1, and at most 1 - 1 / (k - 1) elsewhere.
        wrong += {user for user in range(positions) if both & rows[user] == both} != set(guilty)
        sets += 1
    strategies: dict[str, Any] = {}
    for strategy in STRATEGIES:
        traced = framed = accused = 0
        for _ in range(trials):
            dealt = block_code(positions, positions, chance)
            guilty = set(range(dealt.colluders))
            observed = collude(dealt.rows[: dealt.colluders], strategy, chance)
            named = set(np.flatnonzero(named_by_and(observed, dealt)).tolist())
            traced, framed = traced + bool(named & guilty), framed + bool(named - guilty)
            accused += bool(trace(observed, dealt, ALPHA).accused)
        strategies[strategy] = {
            "named": share(traced, trials),
            "framed": share(framed, trials),
            "accused": share(accused, trials),
        }
        print(positions, strategy, strategies[strategy], flush=True)
    return {
        "users": positions,
        "colluders": code.colluders,
        "sets": sets,
        "sets_named_wrongly": wrong,
        "least_p": 1 / (positions - code.colluders),
        "strategies": strategies,
    }


def subsets(users: int, most: int) -> Iterator[tuple[int, ...]]:
    for size in range(1, most + 1):
        yield from itertools.combinations(range(users), size)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    started = time.perf_counter()
    document = {
        "alpha": ALPHA,
        "tardos": {name: tardos(name, plan, asked.trials) for name, plan in CODES.items()},
        "blocks": {f"({v}, {len(DESIGNS[v])}, 1)": blocks(v, asked.trials) for v in DESIGNS},
        "seconds": math.ceil(time.perf_counter() - started),
        "machine": describe_machine("cpu").model_dump(),
    }
    write_json(asked.output, document)


if __name__ == "__main__":
    main()
