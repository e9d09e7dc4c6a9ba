"""Rule-set surrogates by column generation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from whorl.explanations.rules import Bound, Rule
from whorl.explanations.surrogate import Learner, _literals


def loss(learner, rules, values, target):
    """What the learner minimises: errors of omission, each false cover, and the cost of the rules."""
    covers = [rule.covers(values) for rule in rules]
    missed = (target & ~np.any(covers, axis=0)).sum() if covers else target.sum()
    wrong = sum((cover & ~target).sum() for cover in covers)
    own = sum(learner.rule_cost + learner.bound_cost * len(rule) for rule in rules)
    return own + (missed + wrong) / len(values)


@pytest.mark.parametrize("seed", range(3))
def test_two_regions_are_recovered(seed):
    values = np.random.default_rng(seed).random((400, 5))
    target = ((values[:, 0] > 0.7) & (values[:, 1] <= 0.5)) | (values[:, 3] <= 0.2)
    rules = Learner().fit(values, target)
    found = np.any([rule.covers(values) for rule in rules], axis=0)
    assert (found == target).mean() > 0.95
    assert {bound.feature for rule in rules for bound in rule.bounds} >= {0, 1, 3}
    assert len(rules) <= 3


def test_it_is_close_to_the_best_of_all_small_sets():
    """Brute force over every set of at most two rules of at most two bounds."""
    generator = np.random.default_rng(4)
    values = generator.random((60, 2))
    target = ((values[:, 0] > 0.5) & (values[:, 1] > 0.4)) ^ (generator.random(60) < 0.1)
    learner = Learner(thresholds=3, depth=2)
    singles = _literals(values, 3)
    rules = {Rule.all_of(pair) for pair in combinations(singles, 2)} | {Rule((each,)) for each in singles}
    sets = [(), *((rule,) for rule in rules), *combinations(rules, 2)]
    best = min(loss(learner, list(each), values, target) for each in sets)
    found = loss(learner, learner.fit(values, target), values, target)
    assert found <= best + 0.02


def test_a_known_rule_is_kept_when_it_costs_little():
    """The true edge lies between two thresholds, so many rules are equally good, and the known one is kept."""
    values = np.random.default_rng(0).random((400, 3))
    target = values[:, 0] > 0.62
    known = Rule((Bound(0, low=0.625),))
    assert Learner().fit(values, target, known=[known]) == [known]
    assert Learner(loyalty=1.0).fit(values, values[:, 1] > 0.5, known=[known]) != [known]


def test_nothing_to_describe():
    values = np.random.default_rng(0).random((50, 2))
    assert Learner().fit(values, np.zeros(50, dtype=bool)) == []
    assert Learner().fit(np.zeros((50, 2)), np.ones(50, dtype=bool)) in ([], [Rule(())])
