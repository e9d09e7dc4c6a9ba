"""What fewer and cheaper twins cost a lineup: how often strangers name the victim, and how many copies do.

Victims were transferred from a public model of their own to their own random half of the pictures (small perceptrons).
Twins are full runs of that last stage (19, 99), runs from another public model or from nothing, and shorter ones.
Strangers were made without the victim, some from its public model; copies are tuned ones, and thieves of labels. All
rates are over the joint draw of victim and twins, their intervals from the spread over victims. Candidates show no
weights, so that the figures alone can refuse a lineup; ``kin`` is how often weights would, for some share an ancestor
and others do not.

Run: python benchmarks/lineup_cost.py [--victims 40] [-o benchmarks/results/lineup-cost.json]
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from careless import oracles
from false_accusations import Training, train_stack
from lineup_size import interval, pictures

import whorl
from whorl.bench.result import describe_machine
from whorl.data import Dataset
from whorl.detection.lineup import outermost, rank
from whorl.fingerprints.terms import Terms
from whorl.lineups.asking import order_of, show
from whorl.lineups.making import Material, line_up
from whorl.nets.plain import MLP
from whorl.oracles.base import Oracle
from whorl.oracles.wrappers import LabelsOnly
from whorl.schemes.kin import kin
from whorl.storage import write_json
from whorl.types import Access

FIRST, QUESTIONS, EACH = 40_000, 600, 4
STEPS = 250
USUAL, TUNED = Training(steps=STEPS, rate=0.1), Training(steps=50, rate=0.02)
TWINS: dict[str, tuple[int, str, int]] = {
    "19, last stage": (19, "public", STEPS),
    "99, last stage": (99, "public", STEPS),
    "19, last stage, half the steps": (19, "public", STEPS // 2),
    "19, last stage, a tenth of the steps": (19, "public", STEPS // 10),
    "19, another public model": (19, "other", STEPS),
    "19, from nothing": (19, "nothing", STEPS),
}
"""Name to number of twins, what they start from, and their steps."""


def suspects(
    victim: MLP, public: MLP, other: MLP, parts: dict[str, Dataset], generator: torch.Generator
) -> dict[str, tuple[str, list[Oracle]]]:
    """Label to kind and models under test."""
    data, strange = parts["victim"], parts["attacker"]
    answered = oracles([victim], data, "victim")[0].labels(strange.inputs())
    asked = dataclasses.replace(strange, labels=answered)
    whole = dataclasses.replace(USUAL, share=1.0)
    made = {
        "strangers from its public model": ("stranger", train_stack(EACH, data, generator, USUAL, public)),
        "strangers from another one": ("stranger", train_stack(EACH, data, generator, USUAL, other)),
        "strangers from nothing": ("stranger", train_stack(EACH, data, generator)),
        "fine-tuned": ("copy", train_stack(EACH, strange, generator, TUNED, victim)),
        "labels, same net": ("copy", train_stack(EACH, asked, generator, whole)),
        "labels, same net, from the public model": ("copy", train_stack(EACH, asked, generator, whole, public)),
        "labels, wider net": ("copy", train_stack(EACH, asked, generator, dataclasses.replace(whole, width=128))),
    }
    return {label: (kind, oracles(nets, data, label)) for label, (kind, nets) in made.items()}


def one(seed: int, parts: dict[str, Dataset]) -> list[dict[str, Any]]:
    """What happened with one victim."""
    generator = torch.Generator().manual_seed(seed)
    data = parts["victim"]
    public, other = train_stack(2, parts["calibration"], generator)
    begun = {"public": public, "other": other, "nothing": None}
    net = train_stack(1, data, generator, USUAL, public)[0]
    victim = oracles([net], data, "victim")[0]
    bare = whorl.extract(victim, data=data, scheme="random", budget=4, seed=seed)
    mine = oracles([net], data, "victim", Access.LOGITS)[0]
    material = Material(parts["pool"], parts["test"], data)
    tested = suspects(net, public, other, parts, generator)
    found: list[dict[str, Any]] = []
    for name, (count, start, steps) in TWINS.items():
        how = dataclasses.replace(USUAL, steps=steps)
        nets = train_stack(count, data, generator, how, begun[start])
        apart = any(len(family) <= count for family in kin([victim, *oracles(nets, data, name)]))
        made, secret = line_up(bare, mine, oracles(nets, data, name, Access.LOGITS), material, size=QUESTIONS)
        outside = outermost(made.candidates.settings["figures"], secret.place)
        for label, (kind, models) in tested.items():
            for model in models:
                for answers, suspect in (("labels", LabelsOnly(model)), ("probabilities", model)):
                    showing = show(made.candidates, Terms(), order_of(made.candidates), suspect)
                    named = rank(showing.totals, secret.place) == 1
                    about = {"twins": name, "label": label, "kind": kind, "answers": answers}
                    found.append(
                        {**about, "named": named, "asked": showing.asked, "refused": bool(outside), "kin": apart}
                    )
    return found


def table(victims: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rates by twins, suspects and answers."""
    rows = []
    for twins, (count, _, steps) in TWINS.items():
        for label in dict.fromkeys(each["label"] for each in victims[0]):
            for answers in ("labels", "probabilities"):
                wanted = (twins, label, answers)
                mine = [[e for e in one if (e["twins"], e["label"], e["answers"]) == wanted] for one in victims]
                rows.append(
                    {
                        "twins": twins,
                        "suspects": label,
                        "kind": mine[0][0]["kind"],
                        "answers": answers,
                        "count": sum(map(len, mine)),
                        "named": interval([float(np.mean([e["named"] for e in one])) for one in mine]),
                        "refused": round(float(np.mean([one[0]["refused"] for one in mine])), 4),
                        "kin": round(float(np.mean([one[0]["kin"] for one in mine])), 4),
                        "asked": float(np.median([e["asked"] for one in mine for e in one])),
                        "cost": round(count * steps / STEPS, 2),
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--victims", type=int, default=40)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineup-cost.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts, started, victims = pictures(), time.perf_counter(), []
    for number in range(options.victims):
        victims.append(one(FIRST + number, parts))
        print(f"{number + 1}/{options.victims}", flush=True)
    write_json(
        options.output,
        {
            "victims": options.victims,
            "questions": QUESTIONS,
            "rows": table(victims),
            "seconds": round(time.perf_counter() - started, 1),
            "machine": describe_machine("cpu").model_dump(),
        },
    )


if __name__ == "__main__":
    main()
