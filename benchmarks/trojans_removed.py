"""What removes trojans, and what that costs: accuracy and attack success before and after.

ResNet-8 (width 8) on textures at 16 px, three victims of each attack. Removals are done with the thief's pictures,
which carry no trigger. Strengths of attacks and the radius of sharpness_tuning were chosen on victims with seed 100,
which are not measured; other settings are defaults. The JSON is written after each attack, so that an interrupted run
is a smaller one.

Run: python benchmarks/trojans_removed.py [-o benchmarks/results/trojans-removed.json] [--attacks badnets trojan]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from whorl.bench.result import describe_machine
from whorl.storage import write_json
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import Recipe, parse_recipe

VICTIMS = (0, 1, 2)
DATA = "textures(size=16, images=2000, noise=0.1)"
HOW = "epochs=20, batch=50, shift=0"
POISONED = {
    "badnets": "badnets",
    "blended": "blended, opacity=0.3",
    "warped": "warped, bend=1.5, cover=1",
    "clean_label": "clean_label, rate=0.8",
}
PLANTED = {
    "trojan, inverted": "trojan(seed=500)",
    "trojan, own": "trojan(pictures=own, seed=500)",
    "hide freeze": "hide(freeze, share=0.05, seed=500)",
    "hide null_space": "hide(null_space, energy=0.9999, seed=500)",
}
REMOVALS = {
    "fine_tune": "fine_tune(all, seed=600)",
    "fine_prune": "fine_prune(seed=600)",
    "sharpness_tuning": "sharpness_tuning(seed=600)",
    "unlearn_trigger": "unlearn_trigger(seed=600)",
    "clip_activations": "clip_activations(seed=600)",
    "adversarial_neuron_pruning": "adversarial_neuron_pruning(seed=600)",
}


def trojaned(attack: str, seed: int) -> Recipe:
    """The trojaned victim of one seed."""
    if attack in POISONED:
        return parse_recipe(f"train(resnet8(width=8), poisoned({DATA}, {POISONED[attack]}), {HOW}, seed={seed})")
    return clean(seed).then(PLANTED[attack])


def clean(seed: int) -> Recipe:
    """The victim without a trojan."""
    return parse_recipe(f"train(resnet8(width=8), {DATA}, {HOW}, seed={seed})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/trojans-removed.json"))
    parser.add_argument("--attacks", nargs="+", choices=[*POISONED, *PLANTED], default=[*POISONED, *PLANTED])
    options = parser.parse_args()
    zoo, seconds = Zoo(), 0.0  # of all models, also where an earlier run built them
    rows: list[dict[str, Any]] = []
    for attack in options.attacks:
        for seed in VICTIMS:
            before = trojaned(attack, seed)
            after = {name: before.then(removal) for name, removal in REMOVALS.items()}
            zoo.build([clean(seed), before, *after.values()], workers=1)
            row: dict[str, Any] = {"attack": attack, "victim": seed, "clean": zoo.card(clean(seed)).accuracy}
            for name, recipe in {"nothing": before, **after}.items():
                card = zoo.card(recipe)
                seconds += card.seconds
                row[name] = {"accuracy": card.accuracy, "success": card.attack_success, "agreement": card.agreement}
            rows.append(row)
            print(row, flush=True)
        document = {
            "data": DATA,
            "attacks": {name: str(trojaned(name, VICTIMS[0])) for name in options.attacks},
            "removals": REMOVALS,
            "rows": rows,
            "seconds": round(seconds, 1),
            "machine": describe_machine("cpu").model_dump(),
        }
        write_json(options.output, document)


if __name__ == "__main__":
    main()
