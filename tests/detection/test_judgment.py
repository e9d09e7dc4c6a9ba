"""The rank of a suspect over kinds and families, and what it costs to have had a choice."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from whorl.detection.judgment import MOST_MODELS, Kind, models_needed, ranked
from whorl.errors import UsageError


def kind(accuracy=0.8, **similarities):
    return Kind((accuracy,) * len(next(iter(similarities.values()))), {n: tuple(v) for n, v in similarities.items()})


def test_p_is_the_rank_with_ties_against_the_claim():
    values = [0.1, 0.2, 0.3, 0.4]
    for suspect, p in ((0.5, 1 / 5), (0.4, 2 / 5), (0.25, 3 / 5), (0.0, 1.0)):
        assert ranked({"f": suspect}, 0.8, {"k": kind(f=values)}).p_value == p
    assert ranked({"f": 0.5}, 0.8, {"k": kind(f=values)}).floor == 1 / 5


def test_the_largest_over_kinds_and_families_counts():
    kinds = {"one": kind(f=[0.1, 0.2, 0.3], g=[0.1, 0.2, 0.3]), "two": kind(f=[0.1] * 3, g=[0.6, 0.1, 0.1])}
    found = ranked({"f": 0.5, "g": 0.5}, 0.8, kinds)
    assert found.by_family == {"f": {"one": 0.25, "two": 0.25}, "g": {"one": 0.25, "two": 0.5}}
    assert found.p_value == 0.5


def test_tries_multiply():
    found = ranked({"f": 0.5}, 0.8, {"k": kind(f=[0.1] * 19)}, tries=3)
    assert (found.p_value, found.floor) == (pytest.approx(0.15), pytest.approx(0.15))
    assert ranked({"f": 0.0}, 0.8, {"k": kind(f=[0.1] * 19)}, tries=3).p_value == 1


def test_worse_models_than_the_suspect_decide_nothing():
    kinds = {"good": kind(0.8, f=[0.1] * 9), "poor": kind(0.74, f=[0.1] * 99)}
    found = ranked({"f": 0.5}, 0.8, kinds)
    assert found.void == ("poor",)
    assert found.p_value == 0.1
    assert ranked({"f": 0.5}, 0.8, {"poor": kinds["poor"]}).p_value == 1
    assert ranked({"f": 0.5}, 0.8, {"better": kind(0.99, f=[0.1] * 9)}).p_value == 0.1


def test_models_that_are_needed():
    assert [models_needed(*each) for each in ((0.05,), (0.01,), (0.05, 2), (0.3,))] == [19, 99, 39, 3]


@pytest.mark.parametrize("families", [1, 2])
def test_an_exchangeable_suspect_is_named_as_rarely_as_it_says(families):
    """One kind is the suspect's own, the other is of models that agree far less: the largest p-value holds the rate."""
    chance = np.random.default_rng(1)
    hits, trials = 0, 12_000
    for _ in range(trials):
        shared = chance.normal(size=(families, 20))
        own = {f"f{n}": shared[n, 1:] for n in range(families)}
        other = {f"f{n}": chance.normal(-3, 1, 19) for n in range(families)}
        kinds = {"own": kind(**own), "other": kind(**other)}
        found = ranked({f"f{n}": float(shared[n, 0]) for n in range(families)}, 0.8, kinds)
        hits += found.refuted(0.05)
    bounds = binomtest(hits, trials).proportion_ci(0.999)
    assert bounds.low <= 0.05
    if families == 1:
        assert bounds.high >= 0.05, "ranks use the whole of alpha"


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(UsageError, match="one family at least"):
        ranked({}, 0.8, {"k": kind(f=[0.1])})
    with pytest.raises(UsageError, match="were not asked"):
        ranked({"g": 0.5}, 0.8, {"k": kind(f=[0.1])})
    with pytest.raises(UsageError, match="another number"):
        ranked({"f": 0.5}, 0.8, {"k": Kind((0.8, 0.8), {"f": (0.1,)})})


def test_the_most_tries_that_models_can_be_trained_for():
    assert models_needed(0.05) == 19
    assert models_needed(0.05, 2) == 39
    most = round((MOST_MODELS + 1) * 0.05)
    assert MOST_MODELS - 20 < models_needed(0.05, most) <= MOST_MODELS
    with pytest.raises(UsageError, match=f"after {most + 1:,} tries"):
        models_needed(0.05, most + 1)


@pytest.mark.parametrize("nothing", [{"suspect": {}}, {"kinds": {}}, {"tries": 0}])
def test_a_judgment_of_nothing_is_refused(nothing):
    kinds = {"nets": kind(a=[0.5])}
    given = {"suspect": {"a": 0.5}, "kinds": kinds, "tries": 1} | nothing
    with pytest.raises(UsageError, match="at least"):
        ranked(given["suspect"], 0.9, given["kinds"], tries=given["tries"])


def test_equals_count_against_the_claim_and_no_p_value_is_above_one():
    kinds = {"nets": kind(0.9, a=[0.5, 0.5, 0.1])}
    assert ranked({"a": 0.5}, 0.9, kinds).p_value == 3 / 4
    assert ranked({"a": 0.5}, 0.9, kinds, tries=9).p_value == 1.0
    assert ranked({"a": 0.5}, 0.95, kinds).void == ()
    short = ranked({"a": 0.5}, 0.96, kinds)
    assert (short.p_value, short.void) == (1.0, ("nets",))


@pytest.mark.parametrize("alpha", [0.5, 0.05, 0.01, 1 / 137])
def test_no_more_models_are_trained_than_a_judge_waits_for(alpha):
    most = int((MOST_MODELS + 1) * alpha + 1e-9)
    assert models_needed(alpha, most) <= MOST_MODELS
    with pytest.raises(UsageError, match="tries"):
        models_needed(alpha, most + 1)


def test_no_floor_is_above_one():
    kinds = {"nets": kind(0.9, a=[0.5, 0.5, 0.1])}
    assert ranked({"a": 0.5}, 0.9, kinds, tries=9).floor == 1.0
    assert ranked({"a": 0.5}, 0.99, kinds).floor == 1.0, "none is valid"
