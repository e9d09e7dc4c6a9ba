"""Marks: what each costs, what removes it, and whom it accuses.

Each mark is embedded into each victim, and each removal is done to each marked victim by a thief with pictures of his
own. Strangers and siblings (nets that begin with the same weights and see the victim's pictures in another order) are
held against labels and bits drawn anew, over and over: what a design promises. Marks that draw nothing are judged by a
rank among models made without them. Shape of the table: Lukas et al., *SoK: How Robust is Image Classification Deep
Neural Network Watermarking?*, IEEE S&P 2022.
"""

from __future__ import annotations

from whorl.suites.rows import models
from whorl.suites.suite import MARK, Derived, Suite
from whorl.zoo.recipe import parse_recipe

__all__ = ["small", "tiny"]

NET = "resnet8(width=8)"
DATA = "textures(size=16, images=2000, noise=0.1)"
WAYS = f"{DATA}, epochs=16"
MARKS = {
    "backdoor": "backdoor",
    "entangled": "entangled",
    "deepsigns": "deepsigns",
    "uchida": "uchida",
    "frontier": "frontier",
}
MORE = {"backdoor, random": "backdoor(images=random)", "entangled, one target": "entangled-target"}
BUDGETS = {"deepsigns": 64, "uchida": 64}
NOTHING = Derived("marked", "")
FTAL = Derived("FTAL", "fine_tune(all, seed=500)")
PRUNED = Derived("prune .5", "prune_weights(5/10, seed=500)")
ROUNDED = Derived("int8", "quantise(int8)")
EXTRACTED = Derived("extract", f"extract({NET}, labels, epochs=8, seed=500)")
REORDERED = Derived("reordered", "reparametrise(seed=500)")
BOTH = Derived("RTAL, reordered", "retrain(all, seed=500) -> reparametrise(seed=500)")


def tiny() -> Suite:
    """Procedural textures at 16 px; ResNet-8: 3 victims, 5 marks, 6 removals."""
    return _suite("marks/tiny", MARKS, (FTAL, PRUNED, ROUNDED, EXTRACTED, REORDERED, BOTH), strangers=6, null=5)


def small() -> Suite:
    """The same with more marks, removals, combinations of removals, and strangers."""
    rows = (
        FTAL,
        Derived("FTLL", "fine_tune(last, seed=500)"),
        Derived("RTAL", "retrain(all, seed=500)"),
        PRUNED,
        Derived("prune .8", "prune_weights(8/10, seed=500)"),
        Derived("fine-prune", "fine_prune(seed=500)"),
        ROUNDED,
        Derived("overwrite", f"overwrite({MARK}, count=64, seed=500)"),
        Derived("distil", f"distil({NET}, epochs=10, seed=500)"),
        EXTRACTED,
        REORDERED,
        Derived("null space", "randomise_boundary(seed=500)"),
        BOTH,
        Derived(
            "prune .8, RTAL, reordered",
            "prune_weights(8/10, seed=500) -> retrain(all, seed=501) -> reparametrise(seed=500)",
        ),
    )
    return _suite("marks/small", MARKS | MORE, rows, strangers=20, null=19)


def _suite(name: str, marks: dict[str, str], rows: tuple[Derived, ...], *, strangers: int, null: int) -> Suite:
    begun = f"train({NET}, {DATA}, epochs=1, learning_rate=1e-9, seed=300)"
    return Suite(
        name=name,
        about=f"procedural textures at 16 px; {NET}",
        data=DATA,
        victims=models(NET, WAYS, range(10, 13)),
        derived=(NOTHING, *rows),
        independents={
            "strangers": models(NET, WAYS, range(200, 200 + strangers)),
            "siblings": tuple(
                parse_recipe(f"{begun} -> fine_tune(all, epochs=6, learning_rate=0.05, part=victim, seed={seed})")
                for seed in range(301, 301 + strangers)
            ),
        },
        null=models(NET, WAYS, range(1000, 1000 + null)),
        schemes=marks,
        budgets={name: count for name, count in BUDGETS.items() if name in marks},
        budget=100,
        alpha=1e-6,
        layout="marks",
    )
