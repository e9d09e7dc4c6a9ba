"""Which copies name their victim in a lineup, by labels alone and by probabilities, and how many questions it takes?

A suite's victims, copies and independent models, held before lineups of each victim and its twins: the suite's null,
where it is of the victim's own recipe, else others. Nothing is chosen on the models under test. Ranks are given for
fixed numbers of questions, and for the race; few victims have no interval worth the name, so they have ranges.

Run: python benchmarks/lineup_power.py field/textures [--cache FOLDER] [-o benchmarks/results/lineup-SUITE.json]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import whorl
from whorl.bench.result import describe_machine
from whorl.detection.lineup import outermost, rank
from whorl.fingerprints.terms import Terms
from whorl.lineups.asking import order_of, show
from whorl.lineups.making import Material, line_up
from whorl.oracles.base import Oracle
from whorl.oracles.wrappers import LabelsOnly
from whorl.storage import write_json
from whorl.suites.suite import SUITES, Suite
from whorl.types import Access
from whorl.zoo.cache import Zoo

LABELS, SCORES = (50, 100, 300, 1000, 3000), (30, 100, 300, 1000)


def standing(made: Any, place: int, suspect: Oracle, questions: int) -> list[dict[str, Any]]:
    """Where the victim stands after each number of questions, and in the race."""
    lineup, order = made.candidates, order_of(made.candidates)
    whole, found = Terms(margin=None), []
    for budget in (each for each in LABELS if each <= questions):
        showing = show(lineup, whole, order, LabelsOnly(suspect), budget=budget)
        found.append({"by": "labels", "asked": budget, "rank": rank(showing.totals, place)})
    race = show(lineup, Terms(), order, LabelsOnly(suspect))
    found.append({"by": "race", "asked": race.asked, "rank": rank(race.totals, place)})
    if suspect.access is not Access.LABELS:
        for budget in (each for each in SCORES if each <= questions):
            showing = show(lineup, whole, order, suspect, budget=budget)
            found.append({"by": "probabilities", "asked": budget, "rank": rank(showing.totals, place)})
    return found


def study(suite: Suite, zoo: Zoo, questions: int) -> list[dict[str, Any]]:
    """One record for each victim, model under test and number of questions."""
    source = whorl.SOURCES.make(suite.data)
    material = Material.of(suite.data)
    if len(material.pool) < questions:
        print(f"questions are chosen from {len(material.pool)} natural pictures of {source}")
    found = []
    for number, victim in enumerate(suite.victims):
        mine = zoo.oracle(victim)
        bare = whorl.extract(mine, data=suite.data, scheme="random", budget=4)
        made, secret = line_up(bare, mine, [zoo.oracle(each) for each in suite.twins(number)], material, size=questions)
        outside = outermost(made.candidates.settings["figures"], secret.place)
        tested = [(row.label, "copy", victim.then(row.removal)) for row in suite.derived]
        tested += [(group, "stranger", each) for group, models in suite.independents.items() for each in models]
        for label, kind, recipe in tested:
            for record in standing(made, secret.place, zoo.oracle(recipe), questions):
                found.append({"victim": number, "label": label, "kind": kind, "outside": sorted(outside), **record})
            print(f"victim {number}: {label}", flush=True)
    return found


def table(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By row and number of questions: the share at rank 1, its range over victims, and the median rank."""
    rows = []
    for label in dict.fromkeys(each["label"] for each in records):
        mine = [each for each in records if each["label"] == label]
        for by in ("labels", "race", "probabilities"):
            budgets = sorted({each["asked"] for each in mine if each["by"] == by}) if by != "race" else [None]
            for budget in budgets:
                chosen = [each for each in mine if each["by"] == by and budget in (None, each["asked"])]
                victims = [
                    float(np.mean([each["rank"] == 1 for each in chosen if each["victim"] == number]))
                    for number in sorted({each["victim"] for each in chosen})
                ]
                if chosen:
                    rows.append(
                        {
                            "label": label,
                            "kind": chosen[0]["kind"],
                            "by": by,
                            "asked": budget if budget is not None else float(np.median([e["asked"] for e in chosen])),
                            "models": len(chosen),
                            "first": round(float(np.mean([each["rank"] == 1 for each in chosen])), 4),
                            "range": [round(min(victims), 4), round(max(victims), 4)],
                            "median_rank": float(np.median([each["rank"] for each in chosen])),
                        }
                    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite")
    parser.add_argument("--questions", type=int, default=3000)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    suite, started = SUITES[options.suite](), time.perf_counter()
    records = study(suite, Zoo(options.cache), options.questions)
    output = options.output or Path(f"benchmarks/results/lineup-{options.suite.replace('/', '-')}.json")
    write_json(
        output,
        {
            "suite": options.suite,
            "twins": 19,
            "questions": options.questions,
            "victims": len(suite.victims),
            "outside": {str(each["victim"]): each["outside"] for each in records},
            "rows": table(records),
            "seconds": round(time.perf_counter() - started, 1),
            "machine": describe_machine("cpu").model_dump(),
        },
    )


if __name__ == "__main__":
    main()
