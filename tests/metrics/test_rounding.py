"""What machines add up in another order is written alike."""

from __future__ import annotations

import math

import pytest

from whorl.metrics import ClusterEstimate, Interval, rounded


def test_what_differs_in_its_last_bits_is_alike():
    assert rounded(0.10339125870790744) == rounded(0.10339125870790745) == 0.103391259
    assert rounded(1e-30 / 3) == pytest.approx(1e-30 / 3, rel=1e-8)
    assert [rounded(value) for value in (0.0, 1.0, -2.5, math.inf)] == [0.0, 1.0, -2.5, math.inf]
    assert math.isnan(rounded(math.nan))


def test_figures_are_rounded_at_any_depth_and_nothing_else_changes():
    estimate = ClusterEstimate(1 / 3, Interval(0.1 + 0.2, 1.0), 3)
    given = {"a": [estimate, None], "b": (2 / 3, 7, "text", True)}
    assert rounded(given) == {
        "a": [ClusterEstimate(0.333333333, Interval(0.3, 1.0), 3), None],
        "b": (0.666666667, 7, "text", True),
    }
