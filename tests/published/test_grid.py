"""What Godinot et al. conclude from their grid (AAAI 2025): the queries matter most, the representation comes second.

Direct copies (tuned, retrained, pruned, quantised) of two victims, three extractions, every gain in AUC.
"""

from __future__ import annotations

import numpy as np
import pytest
from thieves import COPIES, FILTERS, QUANTISED

from whorl.metrics import auc

pytestmark = pytest.mark.published

BUDGET = 50
REMOVALS = COPIES | FILTERS | QUANTISED
LABELS = "labels+hamming"
LABEL_ONLY = ("labels+mutual-information", "hard-sac+hamming")
SOFT = ("scores+cosine", "scores+l2", "sac+l1")


@pytest.fixture(scope="module")
def aucs(small_zoo):
    """(queries, representation and similarity) to AUC, averaged over victims and extractions."""

    def measure(scheme):
        return np.mean(
            [
                auc(
                    list(small_zoo.copies(victim, scheme, seed=seed, budget=BUDGET, removals=REMOVALS).values()),
                    small_zoo.strangers(victim, scheme, seed=seed, budget=BUDGET),
                )
                for victim in small_zoo.victims
                for seed in small_zoo.seeds
            ]
        )

    looks = (LABELS, *LABEL_ONLY, *SOFT)
    return {(queries, look): measure(f"{queries}+{look}") for queries in ("random", "negative") for look in looks}


@pytest.fixture(scope="module")
def gains(aucs):
    """What negative queries add, by representation; and what a representation adds to labels, by queries."""
    looks = (LABELS, *LABEL_ONLY, *SOFT)
    by_queries = {look: aucs["negative", look] - aucs["random", look] for look in looks}
    by_looks = {
        (queries, look): aucs[queries, look] - aucs[queries, LABELS]
        for queries in ("random", "negative")
        for look in looks[1:]
    }
    return by_queries, by_looks


def test_negative_queries_help_every_representation(gains):
    by_queries, _ = gains
    assert min(by_queries.values()) > 0


def test_where_a_model_gives_labels_only_negative_queries_are_the_largest_gain_by_far(gains):
    by_queries, by_looks = gains
    assert by_queries[LABELS] > max(by_looks["random", look] for look in LABEL_ONLY) + 0.2


def test_no_single_representation_adds_more_to_random_labels_than_negative_queries(gains):
    by_queries, by_looks = gains
    assert by_queries[LABELS] >= max(by_looks["random", look] for look in SOFT)


def test_representation_is_second_order(gains):
    by_queries, by_looks = gains
    assert np.mean(list(by_queries.values())) > np.mean(list(by_looks.values())) + 0.05
    assert max(by_looks["negative", look] for look in (*LABEL_ONLY, *SOFT)) < by_queries[LABELS] / 3
