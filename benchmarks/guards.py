"""What guards of a service cost honest clients and thieves, and whom they suspect, over several victims.

    python benchmarks/guards.py --cache CACHE -o benchmarks/results/guards.json

Three victims (`mlp(width=64)` on digits at 8 pixels), each with every guard of `whorl guard`, four thieves and twenty
honest clients. All settings are defaults of the library, or of the papers; none was chosen on these victims.
`claims` holds the means over victims with their range.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from whorl.bench.result import describe_machine
from whorl.guards.table import GUARDS, NONE, THIEVES, GuardSettings, guard_table
from whorl.metrics import clopper_pearson
from whorl.storage import write_json
from whorl.zoo.cache import Zoo, default_cache
from whorl.zoo.recipe import parse_recipe

DATA = "digits(size=8)"
VICTIM = "train(mlp(width=64), digits(size=8), epochs=20, batch=50, seed={})"
SEEDS = (41, 42, 43)
MORE = {"knockoff, trained long": "knockoff('mlp(width=64)', labels, budget=400, epochs=100)"}


def spread(values: list[float]) -> dict[str, float]:
    return {"mean": sum(values) / len(values), "least": min(values), "most": max(values)}


def row_of(table: dict[str, Any], guard: str) -> dict[str, Any]:
    return next(row for row in table["guards"] if row["guard"] == guard)


def claims(tables: list[dict[str, Any]]) -> dict[str, Any]:
    guards: dict[str, Any] = {}
    for guard in (NONE, *GUARDS):
        rows = [row_of(table, guard) for table in tables]
        guards[guard] = {"accuracy": spread([row["accuracy"] for row in rows]), "thieves": {}}
        for name in tables[0]["watches"]["prada"]["thieves"]:
            cells = [row["thieves"][name] for row in rows]
            if any(cell["fidelity"] is None for cell in cells):
                continue
            guards[guard]["thieves"][name] = {"fidelity": spread([cell["fidelity"] for cell in cells])}
            if "log10_p" in cells[0]:
                guards[guard]["thieves"][name] |= {
                    "log10_p": [cell["log10_p"] for cell in cells],
                    "matches": [f"{cell['matches']} of {cell['cells']}" for cell in cells],
                }
    watches: dict[str, Any] = {}
    for watch in ("prada", "stream"):
        kinds: dict[str, list[bool]] = {}
        for table in tables:
            for client in table["watches"][watch]["clients"]:
                kinds.setdefault(client["kind"], []).append(client["detected"] is not None)
        flagged = [flag for flags in kinds.values() for flag in flags]
        bounds = clopper_pearson(sum(flagged), len(flagged))
        watches[watch] = {
            "thieves": {
                name: {
                    "detected": [table["watches"][watch]["thieves"][name]["detected"] for table in tables],
                    "p": [table["watches"][watch]["thieves"][name]["p"] for table in tables],
                }
                for name in tables[0]["watches"][watch]["thieves"]
            },
            "clients_suspected": {kind: f"{sum(flags)} of {len(flags)}" for kind, flags in kinds.items()},
            "false_alarms": {"rate": sum(flagged) / len(flagged), "low": bounds.low, "high": bounds.high},
        }
    return {"guards": guards, "watches": watches}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started, zoo = time.perf_counter(), Zoo(asked.cache)
    recipes = [parse_recipe(VICTIM.format(seed)) for seed in SEEDS]
    zoo.build(recipes, workers=1)
    tables = []
    for number, recipe in enumerate(recipes):
        settings = GuardSettings(DATA, thieves=tuple((THIEVES | MORE).items()), clients=20, seed=number)
        told = lambda what, done, total, number=number: print(number, what, done, total, flush=True)  # noqa: E731
        tables.append(guard_table(zoo.oracle(recipe), settings, folder=asked.cache, progress=told))
    document = {
        "victims": [str(recipe) for recipe in recipes],
        "claims": claims(tables),
        "tables": tables,
        "seconds": round(time.perf_counter() - started),
        "machine": describe_machine("cpu").model_dump(),
    }
    write_json(asked.output, document)


if __name__ == "__main__":
    main()
