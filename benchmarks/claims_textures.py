"""Honest owners before a judge, and the accuser who makes "his victim" from an innocent's model: ResNets on textures.

Five honest owners: copies that were tuned, pruned and quantised, judged by akh and igsm among 24 models of each of
three kinds. The judge's models are trained once for all owners, who never saw them: rates of one owner hang together by
that.

Four innocents: the accuser fine-tunes each, or extracts it from its labels, and lines the result up as his victim with
19 honest twins of an honest-looking recipe. ``first of 20`` counts how often the innocent names it; ``refused`` how
often training that recipe with the seed that he states gives other weights than his, for then no judge hears him.

Run: python benchmarks/claims_textures.py --cache CACHE [-o benchmarks/results/claims-textures.json]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from whorl.bench.result import describe_machine
from whorl.claims.judging import PICTURES, examine
from whorl.detection.judgment import Kind, ranked
from whorl.detection.lineup import rank
from whorl.fingerprints.terms import terms_of
from whorl.lineups.asking import order_of, show
from whorl.lineups.making import Material, line_up
from whorl.oracles.wrappers import LabelsOnly, digests_of
from whorl.schemes import SCHEMES
from whorl.storage import write_json
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import Recipe, parse_recipe

DATA = "textures(size=16, images=2000, noise=0.1)"
RECIPE = f"train(resnet8(width=8), {DATA}, epochs=8)"
KINDS = (RECIPE, f"train(vgg(width=8), {DATA}, epochs=8)", f"train(resnet8(width=12), {DATA}, epochs=8)")
FAMILIES = {"akh": "akh", "igsm": "igsm"}
COPIES = {
    "fine-tuned": [f"fine_tune(all, seed={seed})" for seed in (1, 2)],
    "pruned": ["prune_weights(1/2)", "prune_filters(2/16)"],
    "int8": ["quantise(int8)"],
}
ALPHA, MODELS, SIZE, TWINS = 0.05, 24, 100, 19
OWNERS, JUDGES, INNOCENTS, HONEST = range(1200, 1205), 2000, range(1300, 1304), 1400
MADE = {
    "fine-tuned": "fine_tune(all, epochs=3, seed=3)",
    "extracted": "extract(resnet8(width=8), labels, epochs=20, seed=3)",
}


def nets(zoo: Zoo, recipe: str, seeds: range) -> list[Recipe]:
    """Recipes with these seeds, trained."""
    found = [parse_recipe(recipe).with_seed(seed) for seed in seeds]
    zoo.build(found, workers=1)
    return found


def honest(zoo: Zoo) -> dict[str, Any]:
    """Copies of five owners that are called derived, and how many there were."""
    source = parse_recipe(RECIPE).source
    pictures = source.load("test").subset(slice(0, PICTURES))
    null = {kind: [zoo.oracle(each) for each in nets(zoo, kind, range(JUDGES, JUDGES + MODELS))] for kind in KINDS}
    rows: dict[str, list[bool]] = {name: [] for name in (*COPIES, "strangers")}
    for owner in nets(zoo, RECIPE, OWNERS):
        victim = zoo.oracle(owner)
        made = {name: SCHEMES.make(text) for name, text in FAMILIES.items()}
        families = {
            name: each.extract(victim, source.load(each.part), budget=SIZE, seed=7) for name, each in made.items()
        }
        kinds: dict[str, Kind] = {}
        for kind, models in null.items():
            told = [examine(families, model, pictures) for model in models]
            similarities = {family: tuple(matches[family] for _, matches in told) for family in families}
            kinds[kind] = Kind(tuple(accuracy for accuracy, _ in told), similarities)
        copies = {name: [owner.then(step) for step in steps] for name, steps in COPIES.items()}
        copies["strangers"] = nets(zoo, RECIPE, range(1500, 1508))
        for name, suspects in copies.items():
            zoo.build(suspects, workers=1)
            for suspect in suspects:
                accuracy, matches = examine(families, zoo.oracle(suspect), pictures)
                rows[name].append(ranked(matches, accuracy, kinds).refuted(ALPHA))
        print(owner.first, flush=True)
    return {name: {"derived": sum(found), "of": len(found)} for name, found in rows.items()}


def sixth(zoo: Zoo) -> dict[str, Any]:
    """How often an innocent names "the victim" that was made from it, and how often its training can't be repeated."""
    twins = [zoo.oracle(each) for each in nets(zoo, RECIPE, range(HONEST, HONEST + TWINS))]
    rows: dict[str, Any] = {}
    for name, removal in MADE.items():
        first = refused = 0
        for innocent in nets(zoo, RECIPE, INNOCENTS):
            his = innocent.then(removal)
            zoo.build([his], workers=1)
            victim = zoo.oracle(his)
            bare = SCHEMES.make("random").extract(victim, parse_recipe(RECIPE).source.load("queries"), budget=1)
            lined, secret = line_up(bare, victim, twins, Material.of(DATA), size=1000)
            assert lined.candidates is not None
            terms = terms_of(lined.candidates, lined.task)
            shown = show(lined.candidates, terms, order_of(lined.candidates), LabelsOnly(zoo.oracle(innocent)))
            first += rank(shown.totals, secret.open(lined.candidates)) == 1
            claimed = nets(zoo, RECIPE, range(9000, 9001))[0]  # the seed that he states
            refused += not set(digests_of(victim)) & set(digests_of(zoo.oracle(claimed)))
        rows[name] = {"innocents": len(INNOCENTS), "first of 20": first, "refused": refused}
        print(name, rows[name], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="a folder for the nets")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/claims-textures.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    zoo, started = Zoo(options.cache), time.process_time()
    document = {
        "alpha": ALPHA,
        "models of each kind": MODELS,
        "owners": len(OWNERS),
        "sixth accuser": sixth(zoo),
        "honest": honest(zoo),
        "seconds": 0.0,
        "machine": describe_machine("cpu").model_dump(),
    }
    document["seconds"] = round(time.process_time() - started, 1)
    print(document["honest"])
    write_json(options.output, document)


if __name__ == "__main__":
    main()
