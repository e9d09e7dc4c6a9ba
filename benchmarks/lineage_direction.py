"""Who came first, from weights that training moved: how often it is told, and how often wrongly.

    python benchmarks/lineage_direction.py --cache CACHE [-o benchmarks/results/lineage-direction.json]

Bases and tunes are those of `direction_nets`. Of each base every tune is compared with it (descents), with the tune of
its own recipe on other data (twins), and 24 pairs of tunes of unlike recipes are drawn (siblings). A direction told
for two tunes is wrong whichever way. The limits of `whorl.weights.parting` were chosen on the bases of `CHOSEN`, which
are left out here. Intervals are bootstraps over bases, Clopper-Pearson's over bases at none and all. A killed run goes
on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from direction_nets import KINDS, SEEDS, Base, Tune, made

from whorl.bench.result import describe_machine
from whorl.storage import write_json
from whorl.weights.comparison import compare
from whorl.zoo.cache import default_cache

CHOSEN = frozenset([*((kind, 0) for kind in KINDS), *((kind, 1) for kind in ("bert", "llama", "vit", "mlp"))])
SIBLINGS = 24
DRAWS = 2000


def pairs(base: Base, tunes: list[Tune]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Kinds of pairs, and the places of their tunes: one is compared with the base."""
    yield from (("descent", (place,)) for place in range(len(tunes)))
    twins = [pair for pair in combinations(range(len(tunes)), 2) if tunes[pair[0]].stratum == tunes[pair[1]].stratum]
    yield from (("twins", pair) for pair in twins)
    others = [pair for pair in combinations(range(len(tunes)), 2) if pair not in twins]
    chosen = np.random.default_rng(base.seed).choice(len(others), SIBLINGS, replace=False)
    yield from (("siblings", others[place]) for place in sorted(chosen))


def measured(base: Base, cache: Path) -> list[dict[str, Any]]:
    """What is told of each pair. Half of the descents are asked from the tune's side."""
    tunes = list(base.tunes())
    paths = made(base, tunes, cache)
    rows: list[dict[str, Any]] = []
    for count, (kind, places) in enumerate(pairs(base, tunes)):
        sides = [paths[0], paths[1 + places[0]]] if kind == "descent" else [paths[1 + place] for place in places]
        turned = count % 2 == 1
        found = compare(*(reversed(sides) if turned else sides), layers=0)
        first = {"undetermined": None, "A first": int(turned), "B first": int(not turned)}[found.direction]
        rows.append(
            {
                "pair": kind,
                "tunes": [tunes[place].name for place in places],
                "stratum": list(tunes[places[0]].stratum[1:]) if kind == "descent" else None,
                "first": first,
                "right": None if first is None else kind == "descent" and first == 0,
                "table": found.parting is not None,
                "related": found.decision == "related",
            }
        )
    return rows


def shares(bases: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Counts and shares, with intervals over bases."""
    chance = np.random.default_rng(0)
    draws = [chance.choice(list(bases), len(bases)) for _ in range(DRAWS)] if bases else []

    def share(of: Any, among: Any) -> dict[str, Any]:
        counts = {
            name: (sum(map(of, kept)), len(kept))
            for name, rows in bases.items()
            for kept in [[row for row in rows if among(row)]]
        }
        hits, total = (sum(column) for column in zip(*counts.values(), strict=True))
        sums = [np.sum([counts[name] for name in draw], 0) for draw in draws]
        drawn = [hit / count for hit, count in sums if count]
        low, high = np.quantile(drawn, [0.025, 0.975]).round(3).tolist() if drawn else (None, None)
        if total and hits in (0, total):  # all bases are alike, which no bootstrap can see: as if each were one pair
            most = round(0.025 ** (1 / sum(count > 0 for _, count in counts.values())), 3)
            low, high = (0.0, round(1 - most, 3)) if hits == 0 else (most, 1.0)
        return {"count": hits, "of": total, "share": round(hits / total, 3) if total else None, "interval": [low, high]}

    def told(row: dict[str, Any]) -> bool:
        return row["first"] is not None

    found: dict[str, Any] = {"wrong among told": share(lambda row: not row["right"], told)}
    for kind in ("twins", "siblings"):
        found[f"{kind} told"] = share(told, lambda row, kind=kind: row["pair"] == kind)
    for decay in ("no decay", "decay"):
        for length in ("short", "long"):
            stratum = [decay, length]
            for name, extra in (("", False), (", with a table that tells", True)):
                found[f"descents told rightly: {decay}, {length}{name}"] = share(
                    lambda row: row["right"] is True,
                    lambda row, s=stratum, e=extra: row["stratum"] == s and (row["table"] or not e),
                )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineage-direction.json"))
    options = parser.parse_args()
    cache = options.cache / "direction"
    held: dict[str, list[dict[str, Any]]] = {}
    for base in (Base(kind, seed) for seed in SEEDS for kind in KINDS if (kind, seed) not in CHOSEN):
        kept = cache / f"{base.kind}-{base.seed}" / "measured.json"
        if not kept.is_file():
            rows = measured(base, cache)
            write_json(kept, rows)
        held[f"{base.kind} {base.seed}"] = json.loads(kept.read_text())
        print(base, flush=True)
    document = {
        "machine": describe_machine("cpu").model_dump(),
        "limits were chosen on": sorted(f"{kind} {seed}" for kind, seed in CHOSEN),
        "measured on": sorted(held),
        "measured": shares(held),
        "told wrongly": [{"base": name, **row} for name, rows in held.items() for row in rows if row["right"] is False],
    }
    write_json(options.output, document)
    for name, each in document["measured"].items():
        print(f"{name:62} {each['count']:4} of {each['of']:4}  {each['share']}  {each['interval']}")


if __name__ == "__main__":
    main()
