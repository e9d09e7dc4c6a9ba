"""Results for a leaderboard, made of numbers alone: five schemes of unlike access and price on three victims."""

from __future__ import annotations

import numpy as np

from whorl.bench.result import Cell, Extraction, Machine, Model, Refusal, Result

NEED = {"akh": 100, "zest": 2000, "modelgif": 32, "random": 100, "sac-w": 100}  # inputs asked of a suspect
ROWS = {"FTAL": "fine-tune", "WP p=.5": "prune weights", "labels, other net": "extract", "distillation": "distil"}
# How far copies lie above independent models, by row.
SHIFT = {
    "akh": (3.0, 3.0, 1.2, 2.0),
    "zest": (4.0, 4.0, 0.3, 2.5),
    "modelgif": (4.0, 2.0, 0.0, 1.0),
    "random": (1.0, 0.6, 0.1, 0.2),
    "sac-w": (3.0, 4.0, 2.4, 3.0),
}
VICTIM = "train(resnet8, textures(size=16), seed={})"
REMOVAL = {
    "FTAL": "fine_tune(all)",
    "WP p=.5": "prune_weights(1/2)",
    "labels, other net": "extract(vgg, labels)",
    "distillation": "distil(vgg)",
}


def board_result(*, schemes=tuple(SHIFT), victims=3, independents=22, null=19, rows=tuple(ROWS), **changes) -> Result:
    """A field's result. The last row's copies of every victim lost their accuracy; random was refused one stranger."""
    cells: list[Cell] = []
    refusals: list[Refusal] = []
    for name in schemes:
        generator = np.random.default_rng([victims, list(SHIFT).index(name)])
        for victim in range(victims):
            for row in rows:
                similarity = squashed(generator.normal(SHIFT[name][list(ROWS).index(row)]))
                cells.append(_cell(victim, name, row, row, "derived", similarity))
            for number in range(independents):
                label = f"VGG {number + 1}"
                similarity = squashed(generator.normal())
                if name == "random" and number == 0:
                    about = {"victim": victim, "scheme": name, "suspect": label, "group": "VGG", "family": ""}
                    refusals.append(Refusal(**about, kind="independent", damaged=False, reason="grants nothing"))
                else:
                    cells.append(_cell(victim, name, label, "VGG", "independent", similarity))
    fields = {
        "suite": "plugged/field",
        "about": "numbers",
        "limit": 0,
        "alpha": 0.05,
        "budget": 100,
        "columns": list(schemes),
        "chosen": "",
        "sweep": {},
        "rows": list(rows),
        "groups": ["VGG"],
        "victims": [VICTIM.format(victim) for victim in range(victims)],
        "victim_accuracy": [0.95] * victims,
        "null_size": null,
        "paper": {},
        "machine": Machine(
            processor="A processor", cores=2, memory_gib=8, device="cpu", python="3.11.7", versions={"whorl": "0.1.0"}
        ),
        "extractions": [
            Extraction(
                victim=victim,
                scheme=name,
                expression=name,
                seconds=1.5,
                notes={},
                null=[0.1] * null,
                known={},
                inputs=NEED[name],
                peak_mib=20.0,
            )
            for name in schemes
            for victim in range(victims)
        ],
        "cells": cells,
        "refusals": refusals,
        "layout": "field",
        "shadow_families": ["extract"],
        "models": _models(victims, rows, independents),
        "date": "2026-11-20",
        "command": "whorl bench run plugged/field",
    }
    return Result(**(fields | changes))


def squashed(value: float) -> float:
    """Any number as a similarity in (0, 1), to a hundredth of a percent."""
    return round(float(1 / (1 + np.exp(-value))), 4)


def _cell(victim, scheme, suspect, group, kind, similarity) -> Cell:
    damaged = group == "distillation"
    derived = similarity > 0.9
    return Cell(
        victim=victim,
        scheme=scheme,
        suspect=suspect,
        group=group,
        kind=kind,
        similarity=similarity,
        accuracy=0.85 if damaged else 0.94,
        damaged=damaged,
        decision="derived" if derived else "inconclusive",
        p_value=0.05 if derived else 0.4,
        spent=100,
        needed=12 if derived else 100,
        family=ROWS.get(group, ""),
        seconds=0.25,
    )


def _models(victims, rows, independents) -> list[Model]:
    rest = {"damaged": False, "seconds": 2.0}
    names = [VICTIM.format(victim) for victim in range(victims)]
    models = [
        Model(
            label=f"victim {number + 1}",
            role="victim",
            family="",
            recipe=name,
            accuracy=0.95,
            agreement=1.0,
            queries=0,
            **rest,
        )
        for number, name in enumerate(names)
    ]
    for name in names:
        for row in rows:
            damaged = row == "distillation"
            models.append(
                Model(
                    label=row,
                    role=row,
                    family=ROWS[row],
                    recipe=f"{name} -> {REMOVAL[row]}",
                    accuracy=0.85 if damaged else 0.94,
                    agreement=0.9,
                    damaged=damaged,
                    queries=5000 if ROWS[row] in ("extract", "distil") else 0,
                    seconds=3.0,
                )
            )
    models += [
        Model(
            label=f"VGG {number + 1}",
            role="VGG",
            family="",
            recipe=f"train(vgg, textures(size=16), seed={100 + number})",
            accuracy=0.94,
            agreement=None,
            queries=0,
            **rest,
        )
        for number in range(independents)
    ]
    return models
