"""What Changed?: rules of one model, grounded in the rules of the other, matched rule by rule.

Paper: R. Nair, M. Mattetti, E. Daly, D. Wei, O. Alkan, Y. Zhang, *What Changed? Interpretable Model Comparison*,
IJCAI 2021. Two surrogates that are learned apart differ even where their models do not; so the second begins with the
first one's rules and pays less for them than for new ones.

Changed from the paper, whose formulas were not at hand: each class is compared with the rest; the discount is a
setting (`Learner.loyalty`); rules whose overlap is at least ``alike`` count as one that was modified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from whorl.explanations.rules import Flags, Rule, Table, overlap
from whorl.explanations.surrogate import Learner

__all__ = ["Comparison", "RuleChange", "compare_rules"]

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class RuleChange:
    """What became of one rule: ``before`` and ``after`` are None where it was added or removed."""

    kind: Literal["unchanged", "modified", "added", "removed"]
    label: int
    before: Rule | None
    after: Rule | None
    similarity: float


@dataclass(frozen=True)
class Comparison:
    """Changes of all classes.

    ``score`` is 0 where every rule stayed and 1 where none did. ``fidelity`` is the share of rows on which each model's
    rules say what the model says. ``covered`` is the share of disagreeing rows that lie where a changed rule holds for
    one model and not for the other, ``precision`` the share of such rows on which the models really disagree; None
    where there is nothing to divide by.
    """

    changes: tuple[RuleChange, ...]
    score: float
    fidelity: tuple[float, float]
    covered: float | None
    precision: float | None


def compare_rules(
    values: Table, first: Labels, second: Labels, *, learner: Learner | None = None, alike: float = 0.5
) -> Comparison:
    """Compare two models by the rules of their labels on the same rows.

    Shape:
        values: ``[n, features]``; first, second: ``[n]`` labels of both models.
    """
    learner = learner or Learner()
    changes: list[RuleChange] = []
    touched = np.zeros(len(values), dtype=bool)
    faithful: list[tuple[float, float]] = []
    for label in np.union1d(first, second):
        before = learner.fit(values, first == label)
        after = learner.fit(values, second == label, known=before)
        changes += _matched(int(label), before, after, values, alike)
        rows = [_any(rules, values) for rules in (before, after)]
        touched |= rows[0] != rows[1]
        faithful.append((float((rows[0] == (first == label)).mean()), float((rows[1] == (second == label)).mean())))
    differ = first != second
    weights = [1.0 if change.kind in ("added", "removed") else 2.0 for change in changes]
    kept = sum(weight * change.similarity for weight, change in zip(weights, changes, strict=True))
    means = np.mean(faithful, axis=0)
    return Comparison(
        changes=tuple(changes),
        score=1 - kept / sum(weights) if weights else 0.0,
        fidelity=(float(means[0]), float(means[1])),
        covered=float(touched[differ].mean()) if differ.any() else None,
        precision=float(differ[touched].mean()) if touched.any() else None,
    )


def _any(rules: Sequence[Rule], values: Table) -> Flags:
    held = np.zeros(len(values), dtype=bool)
    for rule in rules:
        held |= rule.covers(values)
    return held


def _matched(label: int, before: list[Rule], after: list[Rule], values: Table, alike: float) -> list[RuleChange]:
    """Pair the rules of both models so that the total overlap is largest."""
    table = np.array([[overlap(one, other, values) for other in after] for one in before])
    pairs = list(zip(*linear_sum_assignment(-table), strict=True)) if before and after else []
    changes: list[RuleChange] = []
    for row, column in pairs:
        similarity = float(table[row, column])
        if before[row] == after[column]:
            changes.append(RuleChange("unchanged", label, before[row], after[column], 1.0))
        elif similarity >= alike:
            changes.append(RuleChange("modified", label, before[row], after[column], similarity))
    seen = [{change.before for change in changes}, {change.after for change in changes}]
    changes += [RuleChange("removed", label, rule, None, 0.0) for rule in before if rule not in seen[0]]
    changes += [RuleChange("added", label, None, rule, 0.0) for rule in after if rule not in seen[1]]
    return changes
