"""DeltaXplainer: a tree that learns where two models disagree, read as rules.

Paper: A. Rida, M.-J. Lesot, X. Renard, C. Marsala, *Dynamic Interpretability for Model Comparison via Decision Rules*,
DynXAI at ECML-PKDD 2023, arXiv 2309.17095.

Changed from the paper: disagreements are few, and a tree that maximises accuracy overlooks them, so both classes weigh
alike; and the rules are judged on the half of the data that did not make them, so that precision and recall are those
of new data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier

from whorl.errors import UsageError
from whorl.explanations.rules import Bound, Flags, Rule, Table

__all__ = ["Delta", "Found", "explain_disagreement"]


@dataclass(frozen=True)
class Found:
    """A region of disagreement: on the half that was held out it holds for ``covered`` rows.

    ``precision`` is the share of these on which the models differ, ``recall`` the share of all differences that lie
    here; both None where there is nothing to divide by.
    """

    rule: Rule
    covered: int
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Delta:
    """Where two models differ. Precision and recall are those of all rules together, on the held-out half."""

    disagreement: float
    rows: int
    found: tuple[Found, ...]
    precision: float | None
    recall: float | None


def explain_disagreement(
    values: Table, differ: Flags, *, generator: np.random.Generator, depth: int = 4, least: int = 5
) -> Delta:
    """Rules for the rows on which two models differ.

    Parameters:
        values: ``[n, features]``.
        differ: ``[n]``, whether the models give different labels.
        depth: bounds in a rule, at most.
        least: rows that a rule has to hold for in the half that makes it.

    Raises:
        UsageError: fewer than four rows, which leave nothing to hold out.
    """
    if len(values) < 4 or len(values) != len(differ):
        raise UsageError(f"two models are compared on at least 4 rows, each with a flag; {len(values)} given")
    order = generator.permutation(len(values))
    made, held = order[: len(order) // 2], order[len(order) // 2 :]
    share = float(differ.mean())
    if not differ[made].any():
        return Delta(share, len(values), (), None, None)
    tree: Any = DecisionTreeClassifier(
        max_depth=depth,
        min_samples_leaf=min(least, max(1, len(made) // 4)),
        class_weight="balanced",
        random_state=int(generator.integers(2**31)),  # ties between equal splits
    )
    tree.fit(values[made], differ[made])
    rules = list(_disagreeing(tree)) if not differ[made].all() else [Rule(())]
    found = [_judge(rule, values[held], differ[held]) for rule in rules]
    together = np.zeros(len(held), dtype=bool)
    for rule in rules:
        together |= rule.covers(values[held])
    return Delta(
        disagreement=share,
        rows=len(values),
        found=tuple(sorted(found, key=lambda each: -(each.recall or 0.0))),
        precision=_share(differ[held][together]),
        recall=_share(together[differ[held]]),
    )


def _judge(rule: Rule, values: Table, differ: Flags) -> Found:
    covered = rule.covers(values)
    return Found(rule, int(covered.sum()), _share(differ[covered]), _share(covered[differ]))


def _share(flags: Flags) -> float | None:
    return float(flags.mean()) if len(flags) else None


def _disagreeing(tree: Any) -> Iterator[Rule]:
    """Leaves that predict a difference, as rules; bounds of one feature along a path are intersected."""
    inner = tree.tree_
    weights: NDArray[np.float64] = inner.value[:, 0, :]
    todo: list[tuple[int, tuple[Bound, ...]]] = [(0, ())]
    while todo:
        node, path = todo.pop()
        left, right = int(inner.children_left[node]), int(inner.children_right[node])
        if left == right:  # a leaf
            if weights[node].argmax() == list(tree.classes_).index(True):
                yield Rule.all_of(path)
            continue
        feature, threshold = int(inner.feature[node]), float(inner.threshold[node])
        todo.append((right, (*path, Bound(feature, low=threshold))))
        todo.append((left, (*path, Bound(feature, high=threshold))))
