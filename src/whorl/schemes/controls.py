"""Before a suspect is judged: does it know the control pictures, in which order of classes, through what interface?

A wrong description makes a copy look like a stranger. So neutral probes, many of known class, are asked first; a
suspect that is no better than chance on them, or right under another order of the classes, is not judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.interface import Softmaxed, are_probabilities, treatment_of
from whorl.schemes.calibration import labels_of
from whorl.types import Access, Fingerprint, Grants, grants, told

__all__ = ["Examined", "examine", "own_fault"]

CHANCE = 0.01  # error of calling a model that guesses better than chance
ENOUGH = 5  # controls for each class, below which an order of the classes would fit by chance
REORDERED = 0.1  # share of the controls that another order of the classes must win


@dataclass(frozen=True)
class Examined:
    """A suspect that may be judged.

    ``oracle`` is the suspect under its right name: what it called logits are probabilities where ``answers`` show that.
    ``treatment`` is how its probabilities were treated.

    Shape:
        answers: probabilities ``[p, k]`` where the suspect gives them or logits, else labels ``[p]``. labels: ``[p]``.
    """

    oracle: Oracle
    treatment: str
    answers: Tensor
    labels: Tensor


def examine(fingerprint: Fingerprint, suspect: Oracle, needed: Grants, *, any_order: bool = False) -> Examined | None:
    """Ask the fingerprint's probes. None where it has none, or the suspect has no classes.

    ``needed`` is what will be asked of the suspect later; with ``any_order`` its classes may stand in any.

    Raises:
        UsageError: the answers are those of a model that is described wrongly, or of one that does another task.
    """
    probes = fingerprint.probes
    if probes is None or suspect.task != "classification" or suspect.classes != fingerprint.classes:
        return None
    answers = suspect.answers(probes.inputs).detach().cpu()
    labels = answers if suspect.access is Access.LABELS else answers.argmax(1)
    treatment = ""
    if suspect.access is Access.PROBABILITIES:
        treatment = treatment_of(answers)
    elif suspect.access >= Access.LOGITS:
        if not are_probabilities(answers):
            answers = answers.softmax(1)
        elif needed <= grants(Access.PROBABILITIES):
            suspect, treatment = Softmaxed(suspect), treatment_of(answers)
        else:
            raise UsageError(
                f"{suspect.name} gives probabilities where logits are said, and what is needed is {told(needed)}; "
                "where its last layer is a softmax, give the model without it"
            )
    _check(suspect, labels, probes.labels, labels_of(probes.victim), fingerprint, any_order)
    return Examined(suspect, treatment, answers, labels)


def _check(
    suspect: Oracle, labels: Tensor, known: Tensor, victim: Tensor, fingerprint: Fingerprint, any_order: bool
) -> None:
    names = fingerprint.class_names
    control = known >= 0
    count, classes = int(control.sum()), suspect.classes
    if not count:
        return
    right = int((labels == known)[control].sum())
    own = int((victim == known)[control].sum())
    tried = math.lgamma(classes + 1) if any_order else 0.0  # orders of the classes, in logarithms
    if not _better_than_chance(own, count, 1 / max(classes, 2), tried):
        return  # the controls tell nothing of any model
    order, fitting = _best_order(labels[control].numpy(), known[control].numpy(), classes)
    right = fitting if any_order else right
    if count >= ENOUGH * classes and fitting - right >= REORDERED * count and fitting >= 0.8 * own:
        moved = ", ".join(f"{given} means {meant}" for given, meant in enumerate(order) if given != meant)
        called = f" Your classes are {', '.join(names)}." if names and classes <= 20 else ""
        raise UsageError(
            f"{suspect.name} answers {right} of {count} control pictures rightly, and {fitting} if its labels are "
            f"reordered ({moved}). Its classes seem to come in another order than yours; say in which: --set "
            f"class_names=[...]{', or --match-labels' if fingerprint.candidates else ''}.{called}"
        )
    if not _better_than_chance(right, count, 1 / max(classes, 2), tried):
        raise UsageError(
            f"{suspect.name} answers {right} of {count} control pictures rightly, no better than chance (your model: "
            f"{own}). Either it does another task, or it is described wrongly, and then nothing can be said of it: "
            "check --set range=[0,255], units (of a table's columns), mean and std, layout, channels, output, and the "
            "order of class_names"
        )


def own_fault(fingerprint: Fingerprint) -> str | None:
    """What is wrong with the victim's own answers to the control pictures, where they are no better than chance."""
    if (probes := fingerprint.probes) is None or not (control := probes.labels >= 0).any():
        return None
    right, count = int((labels_of(probes.victim) == probes.labels)[control].sum()), int(control.sum())
    usual, chance = int(probes.labels[control].bincount().max()), 1 / max(fingerprint.classes, 2)
    check = (
        "Check range, units (of a table's columns), mean and std, layout, channels, output, and the order of columns "
        "and class_names"
    )
    answers = f"your model answers {right} of {count} pictures of these data rightly"
    if not _better_than_chance(right, count, chance, 0.0):
        return (
            f"{answers}, no better than chance: unless it does another task it is described wrongly, and the "
            f"fingerprint is worth nothing. {check}"
        )
    if usual < count and not _better_than_chance(right, count, usual / count, 0.0):
        return f"{answers}, and {usual} are of one class: unless it knows no better it is described wrongly. {check}"
    return None


def _better_than_chance(right: int, count: int, chance: float, tried: float) -> bool:
    """``tried`` is the logarithm of the number of orders of the classes that were tried."""
    from scipy.stats import binom  # late, as it takes half a second that most verbs have no use for

    return float(binom.logsf(right - 1, count, chance)) + tried <= math.log(CHANCE)


def _best_order(labels: np.ndarray, known: np.ndarray, classes: int) -> tuple[list[int], int]:
    """The meaning of each label under which most answers are right, and how many those are."""
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (labels, known), 1)
    given, meant = linear_sum_assignment(table, maximize=True)
    return meant.tolist(), int(table[given, meant].sum())
