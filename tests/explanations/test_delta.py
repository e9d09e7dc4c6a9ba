"""DeltaXplainer's tree: an injected difference is found and named, and judged on rows that did not make the rules."""

from __future__ import annotations

import numpy as np
import pytest

from whorl.errors import UsageError
from whorl.explanations.delta import explain_disagreement
from whorl.explanations.rules import Rule


def uniform(seed, rows=800, features=6):
    return np.random.default_rng(seed).random((rows, features))


@pytest.mark.parametrize("seed", range(5))
def test_a_small_region_is_found_and_named(seed):
    """About 6 % of the rows, which a tree without weights may well overlook."""
    values = uniform(seed)
    differ = (values[:, 2] > 0.8) & (values[:, 4] <= 0.3)
    delta = explain_disagreement(values, differ, generator=np.random.default_rng(seed))
    best = delta.found[0].rule
    assert {bound.feature for bound in best.bounds} >= {2, 4}
    edges = {bound.feature: bound for bound in best.bounds}
    assert edges[2].low == pytest.approx(0.8, abs=0.05)
    assert edges[4].high == pytest.approx(0.3, abs=0.05)
    assert delta.recall > 0.7
    assert delta.precision > 0.7
    assert delta.disagreement == pytest.approx(differ.mean())


def test_scattered_differences_have_no_rules_that_hold_elsewhere():
    generator = np.random.default_rng(0)
    values, differ = uniform(0), generator.random(800) < 0.1
    delta = explain_disagreement(values, differ, generator=generator)
    assert delta.precision is None or delta.precision < 0.3  # the rows that made the rules would say far more


def test_equal_models_have_nothing_to_explain():
    delta = explain_disagreement(uniform(0), np.zeros(800, dtype=bool), generator=np.random.default_rng(0))
    assert (delta.disagreement, delta.found, delta.recall) == (0.0, (), None)


def test_models_that_always_differ():
    delta = explain_disagreement(uniform(0), np.ones(800, dtype=bool), generator=np.random.default_rng(0))
    assert [found.rule for found in delta.found] == [Rule(())]
    assert (delta.precision, delta.recall) == (1.0, 1.0)


def test_too_few_rows_are_refused():
    with pytest.raises(UsageError, match="at least 4 rows"):
        explain_disagreement(np.zeros((3, 2)), np.zeros(3, dtype=bool), generator=np.random.default_rng(0))
