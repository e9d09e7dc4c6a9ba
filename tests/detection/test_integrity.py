"""Is it exactly that model? What is counted, bounded and told."""

from __future__ import annotations

import pytest

from whorl.detection.integrity import NO_PROOF, Counted, integrity, upper_bound
from whorl.errors import UsageError


def answer(made=(0, 30), drawn=(0, 200), **more):
    names = {
        "distribution": "held-out pictures",
        "counted": "labels",
        "scheme": "s",
        "fingerprint": "f",
        "suspect": "x",
    }
    return integrity(Counted(*made), Counted(*drawn), alpha=0.05, **names, **more)


def test_what_changed_of_either_kind_is_counted_and_the_drawn_bound_the_rate():
    found = answer((1, 30), (2, 200))
    assert (found.decision, found.changed, found.asked) == ("changed", 3, 230)
    assert (found.drawn_changed, found.drawn, found.distribution) == (2, 200, "held-out pictures")
    assert found.upper == upper_bound(Counted(2, 200), 0.05)
    assert NO_PROOF not in found.caveats
    same = answer(caveats=("asked once",))
    assert (same.decision, same.caveats) == ("no change shown", (NO_PROOF, "asked once"))
    assert same.upper == pytest.approx(1 - 0.05 ** (1 / 200))


def test_inputs_that_were_made_bound_nothing():
    found = answer(drawn=(0, 0))
    assert (found.upper, found.distribution) == (1.0, "")
    assert any("no input was drawn" in each for each in found.caveats)


def test_how_it_was_asked_is_kept_and_when_is_no_part_of_the_answer():
    found = answer(queries={"spent": 9}, interface="labels", record={"date": "today"})
    assert (found.queries, found.interface, found.record) == ({"spent": 9}, "labels", {"date": "today"})
    later = answer(queries={"spent": 9}, interface="labels", record={"date": "tomorrow"})
    assert later == found
    assert answer(queries={"spent": 8}, interface="labels") != found
    plain = answer()
    assert (plain.queries, plain.interface, plain.record) == ({}, "", {})


@pytest.mark.parametrize("alpha", [0.0, 0.5, -0.1, 0.7])
def test_a_bound_fails_with_a_chance_below_one_half(alpha):
    with pytest.raises(UsageError, match=r"integrity check fails with a chance between 0 and \.5"):
        upper_bound(Counted(0, 10), alpha)
