"""When a perfect copy is called derived, and what strangers of several kinds spend."""

from __future__ import annotations

import numpy as np
import pytest

from whorl.detection import plan
from whorl.detection.groups import Groups
from whorl.detection.power import queries_for_a_copy
from whorl.detection.sequential import SequentialMean
from whorl.types import Null, NullModel

STRANGERS = (0.11, 0.13, 0.2, 0.22, 0.3, 0.31, 0.33, 0.36, 0.4071) * 11


@pytest.mark.parametrize("size", [40, 300])
def test_a_perfect_copy_takes_as_many_queries_as_are_said(size):
    """The levels that are refuted are the similarities of the null, and no others, of which one would be above them."""
    made = plan(STRANGERS, alpha=0.05)
    needed = queries_for_a_copy(STRANGERS, made, size=size)
    assert needed is not None
    for asked, derived in ((needed - 1, False), (needed, True)):
        mean = SequentialMean(size, made.sampling_error, levels=STRANGERS)
        mean.update(np.ones(asked))
        assert (mean.highest_refuted >= made.threshold) is derived


def test_no_number_of_queries_suffices_with_too_few_strangers():
    assert queries_for_a_copy(STRANGERS[:9], plan(STRANGERS[:9], alpha=0.05), size=50) is None


@pytest.mark.parametrize("sampling", [0.001, 0.02])
def test_groups_spend_the_sampling_error_that_is_given(sampling):
    models = tuple(NullModel(name=f"m{place}", group="ab"[place % 2]) for place in range(len(STRANGERS)))
    groups = Groups(Null(pool="strangers", models=models, similarities=STRANGERS), alpha=0.1, sampling_error=sampling)
    assert {each.sampling_error for each in groups.plans.values()} == {sampling}
    assert groups.plan.error_bound == max(each.error_bound for each in groups.plans.values()) <= 0.1
