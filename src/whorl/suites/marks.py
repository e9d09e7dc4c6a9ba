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

__all__ = ["UNFIT", "small", "tiny"]

NET = "resnet8(width=8)"
DATA = "textures(size=16, images=2000, noise=0.1)"
WAYS = f"{DATA}, epochs=16"
POOL = "textures(size=16, images=2000, noise=0.2, seed=5)"
MARKS = {
    "backdoor": "backdoor",
    "entangled": "entangled",
    "deepsigns": "deepsigns",
    "uchida": "uchida",
    "frontier": "frontier",
}
MORE = {"entangled, one target": "entangled-target"}
BUDGETS = {"deepsigns": 64, "uchida": 64}
NOTHING = Derived("marked", "")
FTAL = Derived("FTAL", "fine_tune(all, seed=500)")
PRUNED = Derived("prune .5", "prune_weights(5/10, seed=500)")
ROUNDED = Derived("int8", "quantise(int8)")
EXTRACTED = Derived("extract", f"extract({NET}, labels, epochs=8, seed=500)")
REORDERED = Derived("reordered", "reparametrise(seed=500)")
RTAL = Derived("RTAL", "retrain(all, seed=500)")
BOTH = Derived("RTAL, reordered", "retrain(all, seed=500) -> reparametrise(seed=500)")
HEAVILY_PRUNED = Derived("prune .8", "prune_weights(8/10, seed=500)")
FINE_PRUNED = Derived("fine-prune", "fine_prune(seed=500)")
SHARPNESS = Derived("sharpness", "sharpness_tuning(epochs=3, seed=500)")
UNLEARNED = Derived("unlearn trigger", "unlearn_trigger(epochs=3, steps=100, restarts=1, seed=500)")
LOW_RANK = Derived("low rank", "low_rank(epochs=5, seed=500)")
REGULARISED = Derived("regularise", "regularise(decay_epochs=3, epochs=3, seed=500)")
SMOOTHED = Derived("smooth labels", "smooth_labels(epochs=5, seed=500)")
SHIFTED = Derived("shift weights", "shift_weights(epochs=5, seed=500)")
SCRAMBLED = Derived("scramble", "scramble_boundary(rounds=2, epochs=2, seed=500)")
UNFIT = {"recover_relu": "it reads the logits of a perceptron with one hidden layer of ReLU"}


def tiny() -> Suite:
    """Procedural textures at 16 px; ResNet-8: 3 victims, 5 marks, 6 removals."""
    return _suite("marks/tiny", MARKS, (FTAL, PRUNED, ROUNDED, EXTRACTED, REORDERED, BOTH), strangers=6, null=5)


def small() -> Suite:
    """The same with every removal that takes such a net (`UNFIT` says of the others why not), and pairs of them."""
    return _suite("marks/small", MARKS | MORE, (*_weights(), *_thieves(), *_served(), *_pairs()), strangers=10, null=9)


def _weights() -> tuple[Derived, ...]:
    """What changes the weights."""
    return (
        FTAL,
        Derived("FTLL", "fine_tune(last, seed=500)"),
        RTAL,
        Derived("adversarial FT", "adversarial_fine_tune(seed=500)"),
        Derived("PGD training", "adversarial_train(pgd, epochs=2, iterations=3, seed=500)"),
        SHARPNESS,
        UNLEARNED,
        PRUNED,
        HEAVILY_PRUNED,
        Derived("filters pruned", "prune_filters(4/16, seed=500)"),
        FINE_PRUNED,
        Derived("neurons pruned", "adversarial_neuron_pruning(steps=50, seed=500)"),
        Derived("ceilings", "clip_activations(steps=100, seed=500)"),
        ROUNDED,
        Derived("int4", "quantise(int4)"),
        LOW_RANK,
        Derived("LoRA", "lora(seed=500)"),
        Derived("merged", "merge(epochs=3, seed=500)"),
        REGULARISED,
        SMOOTHED,
        SHIFTED,
        Derived("overwrite", f"overwrite({MARK}, count=64, seed=500)"),
        REORDERED,
        Derived("null space", "randomise_boundary(energy=0.99, seed=500)"),
        SCRAMBLED,
        Derived("RemovalNet", "removal_net(iterations=60, seed=500)"),
        Derived("transfer", f"transfer({POOL}, seed=500)"),
        Derived("unlearn pictures", f"unlearn(forget({DATA}, share=0.05), seed=500)"),
        Derived("trojan", "trojan(epochs=3, seed=500)"),
        Derived("hide", "hide(epochs=3, seed=500)"),
    )


def _thieves() -> tuple[Derived, ...]:
    """What learns from answers alone; the pictures are the thief's own, or made."""
    asked = f"{NET}, pool={POOL}, budget=1000, epochs=8, seed=500"
    return (
        EXTRACTED,
        Derived("distil", f"distil({NET}, epochs=8, seed=500)"),
        Derived("extract, hardened", f"extract_adversarial({NET}, epochs=8, iterations=5, seed=500)"),
        Derived("Jacobian", f"jacobian({NET}, seeds=300, rounds=3, epochs=10, round_epochs=3, seed=500)"),
        Derived("knockoff", f"knockoff({asked})"),
        Derived("active", f"active({asked}, rounds=3)"),
        Derived("data-free", f"data_free({NET}, budget=10000, seed=500)"),
    )


def _served() -> tuple[Derived, ...]:
    """What leaves the weights where they are, and treats questions or answers."""
    return (
        Derived("labels alone", "answer_labels"),
        Derived("rounded", "answer_rounded"),
        Derived("top 3", "answer_top"),
        Derived("softened", "answer_softened"),
        Derived("shuffled", "answer_shuffled(seed=500)"),
        Derived("random answers", "answer_randomly(seed=500)"),
        Derived("reverse sigmoid", "answer_reverse_sigmoid"),
        Derived("poisoned", "answer_poisoned(seed=500)"),
        Derived("DAWN", "answer_marked(seed=500)"),
        Derived("misinformed", f"misinform(pool={POOL}, epochs=5, decoy_epochs=3, seed=500)"),
        Derived("queries detected", "detect_queries(seed=500)"),
        Derived("blurred inputs", "filter_inputs(blur)"),
        Derived("JPEG inputs", "filter_inputs(jpeg)"),
        Derived("voted inputs", "smooth(seed=500)"),
        Derived("autoencoded inputs", "autoencode(epochs=10, seed=500)"),
    )


def _pairs() -> tuple[Derived, ...]:
    """One that tunes, for what triggers taught, and then units in another order and size, for bits in weights."""
    first = (SHARPNESS, UNLEARNED, HEAVILY_PRUNED, FINE_PRUNED, LOW_RANK, REGULARISED, SMOOTHED, SHIFTED, SCRAMBLED)
    return (BOTH, *(Derived(f"{each.label}, reordered", f"{each.removal} -> {REORDERED.removal}") for each in first))


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
