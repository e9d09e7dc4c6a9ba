"""What guards of a service cost honest clients and thieves, and whom they suspect, over several victims.

    python benchmarks/guards.py --cache CACHE -o benchmarks/results/guards.json

Two cases: `mlp(width=64)` on digits at 8 pixels, and `resnet8(width=8)` on textures at 16. Three victims in each, with
every guard of `whorl guard`, four thieves whose nets are like the victim's, and twenty honest clients. All settings are
defaults of the library, or of the papers; none was chosen on these victims. `claims` holds the means over victims with
their range. A case that is named (--case) is run alone, and the other stays in the output as it is.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from whorl.bench.result import describe_machine
from whorl.guards.table import GUARDS, NONE, THIEVES, GuardSettings, guard_table
from whorl.metrics import clopper_pearson
from whorl.storage import read_json, write_json
from whorl.zoo.cache import Zoo, default_cache
from whorl.zoo.recipe import Recipe, parse_recipe

TEXTURES = "textures(size=16, images=2000, noise=0.1)"
LONG = "knockoff, trained long"
SEEDS = (41, 42, 43)


@dataclass(frozen=True)
class Case:
    """Victims and their thieves; ``ways`` is how a victim learns."""

    data: str
    net: str
    ways: str

    @property
    def victims(self) -> list[Recipe]:
        """One for each seed."""
        return [parse_recipe(f"train({self.net}, {self.data}, {self.ways}, seed={seed})") for seed in SEEDS]

    @property
    def thieves(self) -> tuple[tuple[str, str], ...]:
        """Those of `whorl guard` with the victim's architecture, and one that learns by heart."""
        known = {name: thief.replace("mlp(width=64)", self.net) for name, thief in THIEVES.items()}
        return tuple((known | {LONG: f"knockoff('{self.net}', labels, budget=400, epochs=100)"}).items())


CASES = {
    "digits": Case("digits(size=8)", "mlp(width=64)", "epochs=20, batch=50"),
    "textures": Case(TEXTURES, "resnet8(width=8)", "epochs=16"),
}


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


def measured(case: Case, cache: Path) -> dict[str, Any]:
    started, zoo = time.perf_counter(), Zoo(cache)
    zoo.build(case.victims, workers=1)
    tables = []
    for number, recipe in enumerate(case.victims):
        settings = GuardSettings(case.data, thieves=case.thieves, clients=20, seed=number)
        told = lambda what, done, total, number=number: print(number, what, done, total, flush=True)  # noqa: E731
        tables.append(guard_table(zoo.oracle(recipe), settings, folder=cache, progress=told))
    return {
        "victims": [str(recipe) for recipe in case.victims],
        "claims": claims(tables),
        "tables": tables,
        "seconds": round(time.perf_counter() - started),
        "machine": describe_machine("cpu").model_dump(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.case or CASES:
        found = measured(CASES[name], asked.cache)
        write_json(asked.output, (read_json(asked.output) if asked.output.exists() else {}) | {name: found})


if __name__ == "__main__":
    main()
