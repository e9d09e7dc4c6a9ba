"""Rule-set surrogates: a short list of rules that says when a model gives one class.

A Boolean rule set (an OR of ANDs) is chosen by column generation: a linear programme selects among the rules known so
far, its dual values say what a new rule would be worth, a beam search proposes the best ones, and at the end an integer
programme picks the set. Rules that are given beforehand may be cheaper than new ones, which grounds a second surrogate
in a first.

Source: the learner that Nair et al. (IJCAI 2021) build on is of the kind of Dash, Günlük, Wei, *Boolean Decision Rules
via Column Generation*, NeurIPS 2018: Hamming loss plus a cost for each rule and each bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from whorl.explanations.rules import Bound, Flags, Rule, Table

__all__ = ["Learner"]

Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Learner:
    """Settings of the search.

    Parameters:
        rule_cost, bound_cost: what each rule and each bound costs, in shares of the rows: an additional rule has to
            put that many rows right.
        thresholds: quantiles of each feature at which bounds may lie.
        depth: bounds in a rule, at most.
        beam: candidates kept at each depth.
        rounds: of column generation, at most.
        loyalty: cost of a rule that was given beforehand, as a share of the cost of a new one.
    """

    rule_cost: float = 0.01
    bound_cost: float = 0.002
    thresholds: int = 19
    depth: int = 3
    beam: int = 5
    rounds: int = 12
    loyalty: float = 0.25

    def fit(self, values: Table, target: Flags, known: Sequence[Rule] = ()) -> list[Rule]:
        """Rules of which at least one holds where ``target`` does, and none elsewhere, as far as their cost allows.

        Shape:
            values: ``[n, features]``; target: ``[n]``.
        """
        literals = _literals(values, self.thresholds)
        held = np.stack([Rule((each,)).covers(values) for each in literals], 1) if literals else None
        pool: dict[Rule, None] = dict.fromkeys(known)
        for _ in range(self.rounds if held is not None else 0):
            assert held is not None
            gain = self._worth(list(pool), known, values, target)
            proposed = [rule for rule in self._search(literals, held, gain) if rule not in pool]
            if not proposed:
                break
            pool |= dict.fromkeys(proposed)
        return self._select(list(pool), known, values, target)

    def _costs(self, rules: Sequence[Rule], known: Sequence[Rule], values: Table, target: Flags) -> Numbers:
        """Of choosing each rule: its length, and the rows that it would put wrong."""
        own = np.array([self.rule_cost + self.bound_cost * len(rule) for rule in rules])
        own *= [self.loyalty if rule in known else 1.0 for rule in rules]
        wrong = np.array([int((rule.covers(values) & ~target).sum()) for rule in rules]) / len(values)
        return own + wrong

    def _worth(self, rules: list[Rule], known: Sequence[Rule], values: Table, target: Flags) -> Numbers:
        """What covering each row is worth, ``[n]``: dual values for rows of the target, minus a row elsewhere."""
        worth = np.full(len(values), -1.0 / len(values))
        worth[target] = 1.0 / len(values)
        if not rules or not target.any():
            return worth
        covers = np.stack([rule.covers(values[target]) for rule in rules], 1).astype(float)
        missed = np.eye(len(covers))
        cost = np.concatenate([self._costs(rules, known, values, target), np.full(len(covers), 1.0 / len(values))])
        solved = linprog(cost, A_ub=-np.hstack([covers, missed]), b_ub=-np.ones(len(covers)), bounds=(0, None))
        worth[target] = -solved.ineqlin.marginals
        return worth

    def _search(self, literals: list[Bound], held: NDArray[np.bool_], worth: Numbers) -> list[Rule]:
        """Rules whose worth exceeds their cost, best first: all of one and two bounds, longer ones by beam search.

        Of rules that bound the same features on the same sides only the best is kept, or neighbouring thresholds of
        one good bound would fill the beam.
        """
        chosen: list[tuple[int, ...]] = [()]
        found: dict[Rule, float] = {}
        for depth in range(1, self.depth + 1):
            rows = np.stack([held[:, list(each)].all(1) for each in chosen], 1)
            totals = (rows * worth[:, None]).T.astype(np.float32) @ held.astype(np.float32)
            chosen = self._best(chosen, totals, literals)
            for each in chosen:
                gain = float(worth[held[:, list(each)].all(1)].sum()) - self.rule_cost - self.bound_cost * depth
                if gain > 1e-9:
                    found[Rule.all_of(literals[index] for index in each)] = gain
            if depth == 1:
                chosen = [(index,) for index in range(len(literals))]  # a bound may be worth something only in a pair
        return sorted(found, key=lambda rule: -found[rule])

    def _best(
        self, chosen: list[tuple[int, ...]], totals: NDArray[np.floating[Any]], literals: list[Bound]
    ) -> list[tuple[int, ...]]:
        """The best extensions of ``chosen`` by one literal, one for each set of features and sides."""
        kinds: dict[frozenset[tuple[int, bool]], tuple[int, ...]] = {}
        for flat in np.argsort(-totals, axis=None, kind="stable")[: 400 * self.beam]:
            row, column = divmod(int(flat), totals.shape[1])
            longer = (*chosen[row], column)
            kinds.setdefault(frozenset(_side(literals[each]) for each in longer), longer)
            if len(kinds) == self.beam:
                break
        return list(kinds.values())

    def _select(self, rules: list[Rule], known: Sequence[Rule], values: Table, target: Flags) -> list[Rule]:
        """The set of least cost, by integer programming."""
        if not rules or not target.any():
            return []
        covers = np.stack([rule.covers(values[target]) for rule in rules], 1).astype(float)
        cost = np.concatenate([self._costs(rules, known, values, target), np.full(len(covers), 1.0 / len(values))])
        solved = milp(
            cost,
            constraints=LinearConstraint(np.hstack([covers, np.eye(len(covers))]), 1, np.inf),
            integrality=np.concatenate([np.ones(len(rules)), np.zeros(len(covers))]),
            bounds=Bounds(0, 1),
            options={"time_limit": 20.0},  # a set that is not shown to be the best is still a set
        )
        if solved.x is None:
            return []
        return [rule for rule, taken in zip(rules, solved.x, strict=False) if taken > 0.5]


def _side(bound: Bound) -> tuple[int, bool]:
    return bound.feature, bound.low > -np.inf


def _literals(values: Table, thresholds: int) -> list[Bound]:
    """Bounds on one side at quantiles of each feature; a constant feature has none."""
    levels = np.linspace(0, 1, thresholds + 2)[1:-1]
    found: list[Bound] = []
    for feature, column in enumerate(values.T):
        for level in np.unique(np.quantile(column, levels)):
            if column.min() <= level < column.max():
                found += [Bound(feature, low=float(level)), Bound(feature, high=float(level))]
    return found
