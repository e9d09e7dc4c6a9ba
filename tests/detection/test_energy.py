"""The energy test at its edges; its levels are in `tests/explanations/test_data_distance.py`."""

from __future__ import annotations

import numpy as np
import pytest

from whorl.detection.energy import energy_test
from whorl.errors import UsageError


def distances(count, seed=0):
    points = np.random.default_rng(seed).normal(size=(count, 2))
    return np.linalg.norm(points[:, None] - points[None], axis=2)


def compared(table, first, **options):
    return energy_test(table, first, generator=np.random.default_rng(1), **options)


def test_two_members_and_one_round_are_enough_and_fewer_are_not():
    found = compared(distances(4), 2, rounds=1)
    assert found.rounds == 1
    assert found.p_value in {0.5, 1.0}
    for first in (1, 3, 4, 5):
        with pytest.raises(UsageError, match="two members or more"):
            compared(distances(4), first)
    with pytest.raises(UsageError, match="two members or more"):
        compared(distances(4), 2, rounds=0)


def test_p_is_a_count_of_thousandths_unless_other_rounds_are_asked_for():
    found = compared(distances(12), 6)
    assert found.rounds == 999
    assert found.p_value * 1000 == pytest.approx(round(found.p_value * 1000))


def test_how_far_a_member_is_from_itself_does_not_count():
    table = distances(9)
    assert compared(table + np.diag(np.arange(9.0)), 4) == compared(table, 4)
