"""What a benchmark did not test, read off its own data."""

from __future__ import annotations

from typing import Final

from whorl.metrics import FEWEST
from whorl.printable import counted
from whorl.report.study import Study
from whorl.report.words import listed, percent, plain

__all__ = ["untested"]

FAMILIES: Final = {
    "fine-tuning": ("ftll", "ftal", "fine-tune", "fine_tune"),
    "retraining": ("rtll", "rtal", "retrain"),
    "weight pruning": ("wp ", "prune_weights"),
    "filter pruning": ("fp c", "prune_filters"),
    "quantisation": ("fp16", "bf16", "int8", "int4", "quanti"),
    "adversarial training": ("adversarial",),
    "extraction from labels": ("labels",),
    "extraction from probabilities": ("probabilities",),
    "distillation": ("distil",),
    "re-parametrisation": ("re-parametri", "reparametri"),
    "several removals in a row": ("->", " then "),
    "merging with other models": ("merg",),
    "a host that alters or refuses suspicious queries": ("host", "input "),
}  # family of removals -> what the label of a row holds that tries it


def untested(study: Study) -> list[str]:
    """Sentences, the most restrictive first."""
    result = study.result
    victims = len(result.victims)
    sentences = [_reduced(result.limit)] if result.limit else []
    sentences.append(
        "One victim: nothing here tells how much victims differ, so ARUC and AUC have no interval."
        if victims == 1
        else f"{counted(victims, 'victim')}: too few to tell how much victims differ; ranges are no intervals."
        if victims < FEWEST
        else f"{counted(victims, 'victim')}, all of one suite."
    )
    sentences += [
        f"One data set: {plain(result.about)}. Other data, sizes of picture and tasks may behave otherwise.",
        "Siblings: no independent model and none of the null is known to share a public ancestor with a victim. "
        "A suspect made from the same public pre-trained model may look like a copy.",
        f"Removals not in this suite: {listed(_absent(study))}; and any other that is no row of the table.",
        _resolution(study),
        "One fingerprint for each victim and scheme: how much fingerprints of the same victim differ was not measured.",
    ]
    if not study.summary.sweep:
        sentences.append("No sweep of k was run: every scheme has the settings given with the table.")
    damaged = sum(column.rows[row].damaged for column in study.summary.columns[:1] for row in result.rows)
    if damaged:
        sentences.append(
            f"{counted(damaged, 'copy', 'copies')} lost over 5 points of accuracy. They are shown and counted apart; "
            "no figure rests on them."
        )
    return sentences


def _reduced(limit: int) -> str:
    return (
        f"This is a reduced run: at most {limit} of the suite's victims, of its rows, and of the models in each group. "
        "Its numbers are no substitute for the full suite."
    )


def _absent(study: Study) -> list[str]:
    labels = [f"{row} ".lower() for row in study.result.rows]
    return [name for name, signs in FAMILIES.items() if not any(sign in label for sign in signs for label in labels)]


def _resolution(study: Study) -> str:
    result = study.result
    trials = study.column().accused.count
    highest = study.column().accused.interval.high
    return (
        f"Rare false accusations: with {counted(trials, 'trial')} on independent models the true rate may still be "
        f"{percent(highest)}, and a null of {counted(result.null_size, 'model')} cannot give a p-value below "
        f"{1 / (result.null_size + 1):.2g}."
    )
