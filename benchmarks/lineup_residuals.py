"""Why a lineup by probabilities missed tuned and pruned copies, and what taking off how sure a model is changes.

Small nets that no suite holds: of each kind 20 runs that share a public model, of which the first six are victims in
turn (so that this shows power and no error rate), and copies of each. All are held before the same lineup, and the
same answers are scored three ways: cosine of residuals as they are, cosine of `levelled` residuals, and the labels.
Beside them the mean distance of candidates and of copies from the candidates' mean, and the share of the copies'
squared distance that `levelled` takes off.

Run: python benchmarks/lineup_residuals.py [--cache FOLDER] [--jobs N] [-o benchmarks/results/lineup-residuals.json]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import whorl
from whorl.bench.result import describe_machine
from whorl.detection.lineup import (
    expected_scores,
    levelled,
    mixture_scores,
    rank,
    residual_scores,
    standardised,
)
from whorl.lineups.asking import LEAST_LOG, PART, order_of
from whorl.lineups.making import Material, line_up
from whorl.storage import write_json
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import Recipe, parse_recipe

PUBLIC = "textures(size=16, images=1500, noise=0.1, seed=31)"
TASK = "only(textures(size=16, images=1500, noise=0.1, seed=32), classes=[0, 2, 4, 6, 8])"
RATES = {"mobilenet(width=8)": 0.1, "vgg(width=6)": 0.1, "resnet8(width=6)": 0.2}
KINDS = [
    ("mobilenet(width=8)", 0.1),
    ("mobilenet(width=8)", 0.5),
    ("mobilenet(width=8)", 1),
    ("vgg(width=6)", 0.5),
    ("resnet8(width=6)", None),
]
"""Net, and the share of its layers that the victim's last stage tuned; None where every run began from nothing."""
COPIES = {
    "tuned": "fine_tune(all, epochs=3, seed=601)",
    "pruned, 2/10": "prune_weights(2/10, epochs=3, seed=600)",
    "pruned, 5/10": "prune_weights(5/10, epochs=3, seed=600)",
    "pruned, 8/10": "prune_weights(8/10, epochs=3, seed=600)",
    "probabilities, same net": "extract({net}, probabilities, learning_rate={rate}, epochs=12, seed=602)",
    "labels, same net": "extract({net}, labels, learning_rate={rate}, epochs=12, seed=603)",
}
CANDIDATES, VICTIMS, QUESTIONS = 20, 6, 1000


def runs(net: str, share: float | None) -> list[Recipe]:
    """Other runs of one recipe."""
    if share is None:
        plain = f"train({net}, {TASK}, epochs=10, learning_rate={RATES[net]}, seed="
        return [parse_recipe(f"{plain}{7000 + seed})") for seed in range(CANDIDATES)]
    public = parse_recipe(f"train({net}, {PUBLIC}, epochs=8, learning_rate={RATES[net]}, seed=3010)")
    settings = f"{TASK}, layers={share}, epochs=8, learning_rate={RATES[net] / 5}, part=victim"
    return [public.then(f"transfer({settings}, seed={7000 + seed})") for seed in range(CANDIDATES)]


def copies(recipe: Recipe, net: str) -> dict[str, Recipe]:
    """Copies of one run, by how they were made."""
    return {name: recipe.then(text.format(net=net, rate=RATES[net])) for name, text in COPIES.items()}


def logs(probabilities: Tensor) -> np.ndarray:
    """As a lineup takes them: clipped logarithms, centred over the classes."""
    found = probabilities.double().clamp_min(1e-30).log().clamp_min(LEAST_LOG)
    return (found - found.mean(-1, keepdim=True)).numpy()


def study(zoo: Zoo, net: str, share: float | None) -> dict[str, Any]:
    """Where each victim stands for each copy of it, and how far all lie from the candidates' mean."""
    candidates = [zoo.oracle(recipe) for recipe in runs(net, share)]
    bare = whorl.extract(candidates[0], data=TASK, scheme="random", budget=4)
    made, _ = line_up(bare, candidates[0], candidates[1:], Material.of(TASK), size=QUESTIONS)
    lineup = made.candidates
    assert lineup is not None
    order = order_of(lineup)
    inputs, known = lineup.inputs[order], lineup.answers[:, order]
    part = -(-QUESTIONS // PART)
    places = [int((known - each.probabilities(inputs)).abs().sum((1, 2)).argmin()) for each in candidates[:VICTIMS]]
    answers = logs(known[:, :part])
    mean = answers.mean(0)
    level = levelled(answers, mean)
    ranks: dict[str, dict[str, list[int]]] = {}
    far: dict[str, list[tuple[float, float]]] = {}
    for place, recipe in zip(places, runs(net, share), strict=False):
        for name, copy in copies(recipe, net).items():
            told = zoo.oracle(copy).probabilities(inputs)
            own = logs(told[:part])
            labels = told.argmax(1)
            given = known.gather(2, labels.expand(len(known), -1).unsqueeze(2)).squeeze(2).numpy()
            totals = {
                "as they are": residual_scores(answers, own),
                "levelled": residual_scores(level, levelled(own, mean)),
                "labels": standardised(mixture_scores(given).sum(1), *expected_scores(known.numpy())),
            }
            for how, each in totals.items():
                ranks.setdefault(name, {}).setdefault(how, []).append(rank(each, place))
            whole = float(((own - mean) ** 2).sum())
            far.setdefault(name, []).append((whole**0.5, 1 - float((levelled(own, mean) ** 2).sum()) / whole))
    return {
        "net": net,
        "share": share,
        "candidates_off_the_mean": round(float(np.sqrt(((answers - mean) ** 2).sum((1, 2))).mean()), 2),
        "rows": {
            name: {
                "off_the_mean": round(float(np.mean([each for each, _ in far[name]])), 2),
                "taken_off": round(float(np.mean([each for _, each in far[name]])), 3),
                **{how: {"first": sum(each == 1 for each in found), "ranks": found} for how, found in of.items()},
            }
            for name, of in ranks.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineup-residuals.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    zoo, started, found = Zoo(options.cache), time.perf_counter(), []
    for net, share in KINDS:
        made = runs(net, share)
        zoo.build(
            [*made, *(copy for each in made[:VICTIMS] for copy in copies(each, net).values())], workers=options.jobs
        )
        found.append(study(zoo, net, share))
        print(f"{net}, {share}", flush=True)
    write_json(
        options.output,
        {
            "candidates": CANDIDATES,
            "victims": VICTIMS,
            "questions": QUESTIONS,
            "kinds": found,
            "seconds": round(time.perf_counter() - started, 1),
            "machine": describe_machine("cpu").model_dump(),
        },
    )


if __name__ == "__main__":
    main()
