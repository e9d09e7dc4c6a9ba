"""A suite of two victims that runs in seconds and has everything that a large one has."""

from __future__ import annotations

from whorl.suites.suite import Derived, Suite
from whorl.zoo.recipe import parse_recipe

SETTINGS = "digits(size=8), epochs=6"


def models(architecture, settings, seeds):
    return tuple(parse_recipe(f"train({architecture}, {settings}, seed={seed})") for seed in seeds)


def tiny_suite(**changes):
    fields = {
        "name": "tiny",
        "about": "digits at 8 px; perceptrons",
        "data": "digits(size=8)",
        "victims": models("mlp(width=16)", SETTINGS, range(2)),
        "derived": (
            Derived("int8", "quantise(int8)"),
            Derived("FTLL", "fine_tune(last, epochs=1)"),
            Derived("WP p=.95", "prune_weights(0.95, epochs=1)"),
            Derived("labels", "extract('mlp(width=16)', epochs=4, seed=500)", beyond=True),
        ),
        "independents": {
            "same": models("mlp(width=16)", SETTINGS, (10, 11)),
            "random forest": models("random_forest(trees=5)", "digits(size=8)", (12,)),
        },
        "null": models("mlp(width=16)", f"{SETTINGS}, part=calibration", range(20, 24)),
        "known": (Derived("fine-tune", "fine_tune(all, epochs=1, part=calibration, seed=5)"),),
        "schemes": {"random": "random", "fgsm": "fgsm"},
        "sweep": {0.02: "fgsm(epsilon=0.02)", 0.3: "fgsm(epsilon=0.3)"},
        "chosen": "fgsm",
        "budget": 20,
        "budgets": {"random": 30},
        "alpha": 0.25,
        "paper": {"FTLL": {"fgsm": ".90"}},
    }
    return Suite(**(fields | changes))


def least_suite():
    """One victim, 8 models, 2 fingerprints, 4 suspects: for runs that are begun again and again."""
    whole = tiny_suite()
    return tiny_suite(
        victims=whole.victims[:1],
        derived=whole.derived[:2],
        independents={group: recipes[:1] for group, recipes in whole.independents.items()},
        null=whole.null[:3],
        known=(),
        sweep={},
        chosen="",
    )
