"""Every suite keeps the contract, and one whose models play two parts is found."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_suite import tiny_suite

from whorl.suites.contract import check_suite
from whorl.suites.suite import SUITES, Derived


@pytest.mark.parametrize("name", SUITES)
def test_suite_keeps_contract(name):
    check_suite(SUITES[name]())


def test_a_sound_suite_passes():
    check_suite(tiny_suite())


def broken():
    suite = tiny_suite()
    group, strangers = next(iter(suite.independents.items()))
    row = suite.derived[0]
    return {
        "has no victim": {"victims": ()},
        "a victim twice": {"victims": (suite.victims[0], suite.victims[0]), "derived": (row,)},
        "calibrates and is under test": {"null": strangers[:1]},
        "stands in the null": {"null": suite.victims[:1]},
        "a model twice in its null": {"null": (suite.null[0], suite.null[0])},
        "measures power and is under test": {"known": (row,)},
        "two rows called": {"derived": (row, replace(row, removal="quantise(int4)"))},
        "would count one copy twice": {"derived": (row, replace(row, label="again"))},
        "which are doubles|of which": {"independents": {group: (strangers[0], strangers[0])}},
        "the scheme 'nobody' is none": {"schemes": {**suite.schemes, "x": "nobody"}},
        "the removal 'nothing' is none": {"derived": (row, Derived("x", "nothing"))},
        "gives a budget to x": {"budgets": {"x": 5}},
        "alpha is an error rate": {"alpha": 1.5},
    }


@pytest.mark.parametrize("told", broken())
def test_a_suite_that_mixes_parts_is_found(told):
    with pytest.raises(AssertionError, match=told):
        check_suite(replace(tiny_suite(), **broken()[told]))
