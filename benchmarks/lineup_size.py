"""How often does a stranger name the victim of a lineup, and what do the checks of twins catch?

40 victims (small perceptrons, each on its own random half of the victim's pictures), fixed beforehand, each with twins
of its own, and 50 strangers of ten kinds for each victim. The rate is over the joint draw of victim and twins, so its
interval comes from the spread over victims; strangers of one victim agree whom they resemble. The last rows line the
victim up with careless twins: how many strangers would name it, and how many lineups the four figures refuse.

Run: python benchmarks/lineup_size.py [--victims 40] [-o benchmarks/results/lineup-size.json]
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from careless import oracles
from false_accusations import Training, train_stack
from scipy.stats import t
from sklearn.ensemble import RandomForestClassifier

import whorl
from whorl.bench.result import describe_machine
from whorl.data import SOURCES, Dataset
from whorl.detection.lineup import outermost, rank
from whorl.fingerprints.terms import Terms
from whorl.lineups.asking import order_of, show
from whorl.lineups.making import Material, line_up
from whorl.oracles.base import Oracle
from whorl.oracles.sklearn import SklearnOracle
from whorl.oracles.wrappers import LabelsOnly, Rounded
from whorl.storage import write_json

FIRST, EACH, QUESTIONS = 20_000, 5, 600
KINDS: dict[str, tuple[str, Training]] = {
    "same recipe": ("victim", Training()),
    "all of the pictures": ("victim", Training(share=1.0)),
    "other split": ("calibration", Training(share=1.0)),
    "thief's pictures": ("attacker", Training()),
    "a tenth of the steps": ("victim", Training(steps=25)),
    "four times the steps": ("victim", Training(steps=1000)),
    "width 8": ("victim", Training(width=8)),
    "width 128": ("victim", Training(width=128)),
    "label noise .3": ("victim", Training(noise=0.3)),
}
TWINS: dict[str, list[tuple[int, str, Training]]] = {
    "19 of the same recipe": [(19, "victim", Training())],
    "99 of the same recipe": [(99, "victim", Training())],
    "half the steps": [(19, "victim", Training(steps=125))],
    "rate / 4": [(19, "victim", Training(rate=0.05))],
    "other split": [(19, "calibration", Training())],
    "width 128": [(19, "victim", Training(width=128))],
    "17 and 2 of half the steps": [(17, "victim", Training()), (2, "victim", Training(steps=125))],
}


def strangers_of(parts: dict[str, Dataset], generator: torch.Generator) -> dict[str, list[Oracle]]:
    """Five models of each kind that know nothing of the victim."""
    data = parts["victim"]
    found = {
        kind: oracles(list(train_stack(EACH, parts[part], generator, how)), data, kind)
        for kind, (part, how) in KINDS.items()
    }
    inputs, labels = data.inputs().flatten(1).numpy(), data.labels.numpy()
    found["random forest"] = [
        SklearnOracle(
            RandomForestClassifier(50, random_state=int(torch.randint(2**31, (), generator=generator))).fit(
                inputs, labels
            ),
            input_shape=data.input_shape,
            classes=len(data.classes),
        )
        for _ in range(EACH)
    ]
    found["same recipe, rounded"] = [Rounded(each, decimals=2) for each in found["same recipe"]]
    return found


def one(seed: int, parts: dict[str, Dataset]) -> list[dict[str, Any]]:
    """What happened with one victim: a record for each lineup and stranger."""
    generator = torch.Generator().manual_seed(seed)
    data = parts["victim"]
    victim = oracles(list(train_stack(1, data, generator)), data, "victim")[0]
    bare = whorl.extract(victim, data=data, scheme="random", budget=4, seed=seed)
    material = Material(parts["pool"], parts["test"], data)
    strangers = strangers_of(parts, generator)
    found: list[dict[str, Any]] = []
    for name, groups in TWINS.items():
        nets = [net for count, part, how in groups for net in train_stack(count, parts[part], generator, how)]
        made, secret = line_up(bare, victim, oracles(nets, data, name), material, size=QUESTIONS)
        lineup, order = made.candidates, order_of(made.candidates)
        outside = outermost(lineup.settings["figures"], secret.place)
        for kind, models in strangers.items():
            for model in models:
                for suspect in (LabelsOnly(model), model):
                    showing = show(lineup, Terms(), order, suspect)
                    found.append(
                        {
                            "twins": name,
                            "kind": kind,
                            "statistic": showing.statistic,
                            "named": rank(showing.totals, secret.place) == 1,
                            "asked": showing.asked,
                            "outside": sorted(outside),
                        }
                    )
    return found


def table(victims: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rates by twins and statistic, and by kind for the honest ones; intervals from the spread over victims."""
    rows = []
    for twins in TWINS:
        for statistic in ("mixture", "residual"):
            mine = [
                [each for each in one if (each["twins"], each["statistic"]) == (twins, statistic)] for one in victims
            ]
            kinds = ["all", *KINDS, "random forest", "same recipe, rounded"] if "same recipe" in twins else ["all"]
            for kind in kinds:
                chosen = [[each for each in one if kind in ("all", each["kind"])] for one in mine]
                rates = [float(np.mean([each["named"] for each in one])) for one in chosen]
                passed = [float(np.mean([each["named"] and not each["outside"] for each in one])) for one in chosen]
                rows.append(
                    {
                        "twins": twins,
                        "statistic": statistic,
                        "strangers": kind,
                        "count": sum(map(len, chosen)),
                        "named": interval(rates),
                        "named_and_not_refused": interval(passed),
                        "refused": round(float(np.mean([bool(one[0]["outside"]) for one in chosen])), 4),
                        "outside": _outside(chosen),
                        "asked": float(np.median([each["asked"] for one in chosen for each in one])),
                    }
                )
    return rows


def interval(values: list[float]) -> dict[str, float]:
    """The mean over victims and its 95 % t interval."""
    mean, count = float(np.mean(values)), len(values)
    half = float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / count**0.5)
    return {"rate": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}


def _outside(chosen: list[list[dict[str, Any]]]) -> dict[str, float]:
    counts: dict[str, int] = defaultdict(int)
    for one in chosen:
        for name in one[0]["outside"]:
            counts[name] += 1
    return {name: round(count / len(chosen), 4) for name, count in sorted(counts.items())}


def pictures() -> dict[str, Dataset]:
    """The digits by part, and ``pool``, of which questions are chosen."""
    source = SOURCES.make("digits(size=8)")
    parts = {part: source.load(part) for part in ("victim", "attacker", "calibration", "test")}
    return parts | {"pool": source.load("queries+test")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--victims", type=int, default=40)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineup-size.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts, started, victims = pictures(), time.perf_counter(), []
    for number in range(options.victims):
        victims.append(one(FIRST + number, parts))
        if number:
            write_json(
                options.output,
                {
                    "victims": number + 1,
                    "questions": QUESTIONS,
                    "rows": table(victims),
                    "seconds": round(time.perf_counter() - started, 1),
                    "machine": describe_machine("cpu").model_dump(),
                },
            )
        print(f"{number + 1}/{options.victims}", flush=True)


if __name__ == "__main__":
    main()
