"""How often is a stranger called derived by a null that was trained carelessly, and does the verdict say so?

60 pools. In each a victim (a small perceptron on its own random half of the victim's pictures), its fingerprints by
three schemes, strangers of the victim's own recipe and pictures, and known copies. Each cell is one null of 99 models
that differs from that recipe in one thing; in the last two they are 99 tunes of one net of that recipe, whose weights
are seen or not. A stranger is wrongly accused when it is called derived; an accusation is
unwarned where the verdict has no word on suspect or victim standing above the null. `before` is the same decision
without the look at the standing, for strangers and for true copies (power). Errors are clustered by pool.

Run: python benchmarks/careless.py --keep CACHE [--pools 60] [-o benchmarks/results/careless.json]
With ``--only CELL...`` the others keep what they gave, and CACHE is another; the last two go by one name, ``families``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from false_accusations import COLUMNS, Training, train_stack

from whorl.bench.result import describe_machine
from whorl.data import SOURCES, Dataset
from whorl.data.base import join
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.removals.base import opened
from whorl.schemes import SCHEMES
from whorl.schemes.calibration import probes_of
from whorl.storage import write_json
from whorl.types import Access, Fingerprint, Verdict

NULL, STRANGERS, ALPHA = 99, 16, 0.01
# Seeds of these pools. Figures and levels of the check were chosen on pools from 1,000 and from 5,000 on.
FIRST = 7_000
CELLS: dict[str, tuple[str, Training]] = {
    "same recipe": ("victim", Training()),
    "other split": ("calibration", Training()),
    "a fifth of the steps": ("victim", Training(steps=50)),
    "a tenth of the steps": ("victim", Training(steps=25)),
    "half the pictures": ("victim", Training(share=0.25)),
    "label noise .1": ("victim", Training(noise=0.1)),
    "width 8": ("victim", Training(width=8)),
    "width 128": ("victim", Training(width=128)),
    "rate/10": ("victim", Training(rate=0.02)),
    "Adam": ("victim", Training(rate=0.003, adam=True)),
    "labels smoothed by .1": ("victim", Training(smoothing=0.1)),
}
TUNES = Training(steps=50, rate=0.05)
FAMILIES = {"tunes of one net": Access.WEIGHTS, "tunes of one net, weights unseen": Access.LOGITS}
SEPARATOR = " | "
COPIES = {"fine_tune(all)": 4, "retrain(all)": 4, "prune_weights(1/2)": 1, "quantise(int8)": 1}


def oracles(nets: Iterable[torch.nn.Module], data: Dataset, name: str, access: Access = Access.WEIGHTS) -> list[Oracle]:
    """The nets as oracles."""
    how: Any = {"input_shape": data.input_shape, "classes": len(data.classes), "access": access}
    return [TorchOracle(net, **how, name=f"{name} {i}") for i, net in enumerate(nets)]


def warned(verdict: Verdict) -> bool:
    """Whether a caveat says that suspect or victim stands above the null, or that it holds a family."""
    told = ("models of the null do", "models are unlike it", "made from one another", "your own model's answers")
    return any(word in caveat for caveat in verdict.caveats for word in told)


def judged(fingerprint: Fingerprint, suspect: Oracle) -> dict[str, bool]:
    """What was decided with the look at the standing and without it, and whether a question was asked instead."""
    scheme = SCHEMES.make(fingerprint.scheme)
    blind = scheme.verify(dataclasses.replace(fingerprint, probes=None), suspect, alpha=ALPHA)
    before = blind.decision == "derived"
    try:
        verdict = scheme.verify(fingerprint, suspect, alpha=ALPHA)
    except UsageError:  # a copy that was damaged until it takes two classes for each other
        return {"derived": False, "before": before, "warned": False, "asked": True}
    return {"derived": verdict.decision == "derived", "before": before, "warned": warned(verdict), "asked": False}


def pool(seed: int, parts: dict[str, Dataset], asked: Collection[str]) -> dict[str, list[dict[str, bool]]]:
    """What happens in one pool, by cell, scheme and kind of suspect, as ``cell | scheme | kind``."""
    generator = torch.Generator().manual_seed(seed)
    data = parts["victim"]
    victim = oracles(train_stack(1, data, generator), data, "victim")[0]
    suspects = {"stranger": oracles(train_stack(STRANGERS, data, generator), data, "stranger")}
    for expression, count in COPIES.items():
        removal = REMOVALS.make(expression)
        made = [
            removal(victim, parts["attacker"], generator=torch.Generator().manual_seed(seed + i)) for i in range(count)
        ]
        suspects[expression] = [opened(each, victim, name=expression) for each in made]
    own = data.subset(torch.randperm(len(data), generator=generator)[:120])
    controls = join(parts["test"].subset(torch.randperm(len(parts["test"]), generator=generator)[:60]), own)
    bare = []
    for expression, budget in COLUMNS.values():
        scheme = SCHEMES.make(expression)
        seeds = data if scheme.part == "victim" else parts["queries"]
        made = scheme.extract(victim, seeds, budget=budget, seed=seed)
        bare.append(dataclasses.replace(made, probes=probes_of(victim, controls)))
    found: dict[str, list[dict[str, bool]]] = {}
    nulls: dict[str, list[Oracle]] = {}
    for place, (cell, (part, how)) in enumerate(CELLS.items(), 1):
        generator = torch.Generator().manual_seed(1000 * seed + place)  # whichever cells are asked for
        if cell in asked:
            nulls[cell] = oracles(train_stack(NULL, parts[part], generator, how), data, cell)
    if "families" in asked:
        generator = torch.Generator().manual_seed(1000 * seed)
        (base,) = train_stack(1, data, generator)
        tunes = train_stack(NULL, data, generator, TUNES, base)
        nulls |= {cell: oracles(tunes, data, cell, access) for cell, access in FAMILIES.items()}
    for cell, nets in nulls.items():
        for column, fingerprint in zip(COLUMNS, bare, strict=True):
            scheme = SCHEMES.make(fingerprint.scheme)
            known = scheme.calibrate(fingerprint, {net.name: net for net in nets}, pool=cell)
            for kind, models in suspects.items():
                found[SEPARATOR.join((cell, column, kind))] = [judged(known, model) for model in models]
    return found


def clustered(values: list[list[bool]]) -> dict[str, float]:
    """Mean of all, with the standard error of the pools' means."""
    means = np.array([np.mean(each) for each in values])
    error = float(means.std(ddof=1) / len(means) ** 0.5) if len(means) > 1 else 0.0
    return {"rate": round(float(means.mean()), 5), "error": round(error, 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, default=60)
    parser.add_argument("--keep", type=Path, required=True, help="a folder in which finished pools are found again")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/careless.json"))
    parser.add_argument("--only", nargs="+", choices=[*CELLS, "families"], metavar="CELL", help="only these nulls")
    options = parser.parse_args()
    asked = options.only or [*CELLS, "families"]
    torch.set_num_threads(1)
    options.keep.mkdir(parents=True, exist_ok=True)
    source = SOURCES.make("digits(size=8)")
    parts = {part: source.load(part) for part in ("victim", "attacker", "calibration", "queries", "test")}
    gathered: dict[str, list[list[dict[str, bool]]]] = defaultdict(list)
    seconds = 0.0
    for number in range(options.pools):
        kept = options.keep / f"{FIRST + number}.json"
        if not kept.exists():
            started = time.process_time()
            found = pool(FIRST + number, parts, asked)
            write_json(kept, {"found": found, "seconds": time.process_time() - started})
            print(f"{number + 1}/{options.pools}", flush=True)
        held = json.loads(kept.read_bytes())
        seconds += held["seconds"]
        for key, values in held["found"].items():
            gathered[key].append(values)
    made = document(gathered, options.pools, seconds)
    if options.only:
        before, again = json.loads(options.output.read_bytes()), {row["null"] for row in made["rows"]}
        others = [row for row in before["rows"] if row["null"] not in again]
        made |= {"rows": [*others, *made["rows"]], "seconds": round(before["seconds"] + seconds, 1)}
    write_json(options.output, made)


def document(gathered: dict[str, list[list[dict[str, bool]]]], pools: int, seconds: float) -> dict[str, Any]:
    """The table as JSON; ``seconds`` are those of a processor."""
    rows = []
    for key, values in gathered.items():
        cell, column, kind = key.split(SEPARATOR)
        shares = {name: clustered([[each[name] for each in one] for one in values]) for name in values[0][0]}
        row = {"null": cell, "scheme": column, "suspect": kind, "count": sum(map(len, values)), **shares}
        if kind == "stranger":
            alone = [[each["derived"] and not each["warned"] for each in one] for one in values]
            row["unwarned"] = clustered(alone)
        rows.append(row)
    return {
        "alpha": ALPHA,
        "pools": pools,
        "null": NULL,
        "schemes": {column: expression for column, (expression, _) in COLUMNS.items()},
        "rows": rows,
        "seconds": round(seconds, 1),
        "machine": describe_machine("cpu").model_dump(),
    }


if __name__ == "__main__":
    main()
