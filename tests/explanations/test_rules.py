"""Rules: what they cover, what they say, how alike they are."""

from __future__ import annotations

import numpy as np
import pytest

from whorl.explanations.rules import Bound, Rule, overlap

VALUES = np.stack([np.linspace(0, 1, 101), np.linspace(1, 0, 101)], 1)


def test_bounds_of_one_feature_are_intersected():
    rule = Rule.all_of([Bound(0, low=0.2), Bound(1, high=0.5), Bound(0, high=0.9), Bound(0, low=0.3)])
    assert rule == Rule((Bound(0, 0.3, 0.9), Bound(1, high=0.5)))
    assert rule.describe(("width", "height")) == "0.3 < width <= 0.9 and height <= 0.5"


def test_low_is_open_and_high_is_closed():
    assert Rule((Bound(0, 0.25, 0.5),)).covers(np.array([[0.25], [0.26], [0.5], [0.51]])).tolist() == [
        False,
        True,
        True,
        False,
    ]


def test_the_empty_rule_always_holds():
    assert Rule(()).covers(VALUES).all()
    assert Rule(()).describe(()) == "always"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (Bound(0, low=0.5), Bound(0, low=0.5), 1.0),
        (Bound(0, high=0.4), Bound(0, low=0.6), 0.0),
        (Bound(0, low=0.5), Bound(1, high=0.5), 0.49),  # nearly the same rows, said of another feature
    ],
)
def test_overlap(first, second, expected):
    assert overlap(Rule((first,)), Rule((second,)), VALUES) == pytest.approx(expected, abs=0.02)


def test_overlap_falls_with_distance():
    shares = [overlap(Rule((Bound(0, high=0.5),)), Rule((Bound(0, high=at),)), VALUES) for at in (0.5, 0.6, 0.8, 1.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1
