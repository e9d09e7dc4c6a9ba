"""What Changed?: rules that stayed, moved, came and went."""

from __future__ import annotations

import numpy as np
import pytest

from whorl.explanations.changed import compare_rules


def labels(values, edge=0.5, island=False):
    """Class 1 right of ``edge``, and with ``island`` also in a corner."""
    found = (values[:, 0] > edge).astype(np.int64)
    if island:
        found[(values[:, 0] <= 0.3) & (values[:, 2] > 0.7)] = 1
    return found


@pytest.fixture(params=range(3))
def values(request):
    return np.random.default_rng(request.param).random((500, 4))


def test_equal_models_changed_nothing(values):
    comparison = compare_rules(values, labels(values), labels(values))
    assert {change.kind for change in comparison.changes} == {"unchanged"}
    assert comparison.score == 0
    assert comparison.covered is None
    assert min(comparison.fidelity) > 0.95


def test_a_moved_edge_is_a_modified_rule(values):
    comparison = compare_rules(values, labels(values), labels(values, edge=0.7))
    kinds = [change.kind for change in comparison.changes if change.label == 1]
    assert kinds == ["modified"]
    (change,) = [change for change in comparison.changes if change.label == 1]
    assert change.before.bounds[0].low == pytest.approx(0.5, abs=0.06)
    assert change.after.bounds[0].low == pytest.approx(0.7, abs=0.06)
    assert comparison.covered > 0.8
    assert comparison.precision > 0.8


def test_an_island_is_an_added_rule(values):
    comparison = compare_rules(values, labels(values), labels(values, island=True))
    added = [change.after for change in comparison.changes if change.kind == "added" and change.label == 1]
    assert len(added) == 1
    assert {bound.feature for bound in added[0].bounds} == {0, 2}
    assert any(change.kind == "unchanged" for change in comparison.changes if change.label == 1)
    assert comparison.covered > 0.7


def test_more_change_is_a_larger_score(values):
    scores = [compare_rules(values, labels(values), labels(values, edge=edge)).score for edge in (0.5, 0.6, 0.9)]
    assert scores[0] < scores[1] < scores[2]
