"""What Godinot et al. claim of the Anna Karenina heuristic (AAAI 2025): errors are more personal than right answers."""

from __future__ import annotations

import numpy as np
import pytest

from whorl.metrics import aruc, auc

pytestmark = pytest.mark.published

BUDGET = 100


@pytest.fixture(scope="module")
def scores(small_zoo):
    """Metric to scheme to values by (victim, seed)."""
    found = {}
    for metric in (auc, aruc):
        for scheme in ("akh", "random"):
            found[metric.__name__, scheme] = np.array(
                [
                    metric(
                        list(small_zoo.copies(victim, scheme, seed=seed, budget=BUDGET).values()),
                        small_zoo.strangers(victim, scheme, seed=seed, budget=BUDGET),
                    )
                    for victim in small_zoo.victims
                    for seed in small_zoo.seeds
                ]
            )
    return found


def test_negative_queries_beat_random_ones(scores):
    assert (scores["aruc", "akh"] > scores["aruc", "random"]).all()
    assert scores["auc", "akh"].mean() > scores["auc", "random"].mean()


def test_independent_models_agree_less_on_errors_than_anywhere(small_zoo):
    for victim in small_zoo.victims:
        on_errors = small_zoo.strangers(victim, "akh", budget=BUDGET)
        anywhere = small_zoo.strangers(victim, "random", budget=BUDGET)
        assert max(on_errors) < min(anywhere)
