"""Suites say what they consist of, and those of the catalog are sound."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_suite import tiny_suite

from whorl.errors import UsageError
from whorl.expressions import parse
from whorl.removals import REMOVALS
from whorl.schemes import SCHEMES
from whorl.suites.marks import UNFIT
from whorl.suites.suite import SUITES, Derived
from whorl.zoo.recipe import parse_recipe


def test_recipes_are_all_models():
    suite = tiny_suite()
    found = [recipe.digest for recipe in suite.recipes()]
    # 2 victims with 4 rows and 1 known copy each, 3 strangers, 4 models of the null
    assert len(found) == len(set(found)) == 2 + 2 * 5 + 3 + 4


def test_limited_is_smaller_and_says_so():
    suite = tiny_suite().limited(1)
    assert suite.limit == 1
    assert len(suite.victims) == len(suite.derived) == len(suite.known) == 1
    assert {group: len(models) for group, models in suite.independents.items()} == {"same": 1, "random forest": 1}
    assert len(suite.null) == 4, "with fewer there would be no verdict"
    with pytest.raises(UsageError, match="at least 1"):
        suite.limited(0)


def test_budget_of_a_column():
    suite = tiny_suite()
    assert (suite.budget_of("random"), suite.budget_of("fgsm")) == (30, 20)


@pytest.mark.parametrize("name", SUITES)
def test_suites_of_the_catalog(name):
    suite = SUITES[name]()
    assert suite.name == name
    for expression in (*suite.schemes.values(), *suite.sweep.values()):
        assert suite.shadows or not SCHEMES.make(expression).needs_pool, f"{expression} has nothing to learn from"
    assert not suite.chosen or suite.chosen in suite.schemes
    tested = {recipe.digest for group in suite.independents.values() for recipe in group}
    victims = {recipe.digest for recipe in suite.victims}
    null = {recipe.digest for recipe in suite.null}
    assert not tested & null, "a model under test may not calibrate"
    assert not victims & null
    assert suite.crossed or not victims & tested
    for suspect in suite.suspects():
        assert suspect.kinds, f"{suspect.label} meets no victim"
    known = {suite.victims[0].then(row.removal).digest for row in suite.known}
    copies = {suspect.recipe.digest for suspect in suite.suspects()}
    assert not known & copies
    for row in suite.known:
        assert "part=calibration" in row.removal, "known copies come from pictures of their own"
    labels = [row.label for row in suite.derived] + list(suite.independents)
    assert len(labels) == len(set(labels)), "rows and groups are told apart by their labels"
    assert set(suite.budgets) <= set(suite.schemes)
    assert suite.recipes()


def test_rows_are_chosen_by_label_removal_or_family():
    suite = tiny_suite()
    assert [row.label for row in suite.attacked("extract").derived] == ["labels"]
    assert [row.label for row in suite.attacked("prune*,int8").derived] == ["int8", "WP p=.95"]
    assert [row.label for row in suite.attacked("fine-tune").derived] == ["FTLL"]
    with pytest.raises(UsageError, match="It has extract, fine_tune, prune_weights, quantise"):
        suite.attacked("shave")


def test_budgets_become_columns():
    suite = tiny_suite().asking((10, 20))
    assert list(suite.schemes) == ["random @10", "random @20", "fgsm @10", "fgsm @20"]
    assert [suite.budget_of(column) for column in suite.schemes] == [10, 20, 10, 20]
    assert not suite.sweep
    with pytest.raises(UsageError, match="at least 1"):
        tiny_suite().asking((0,))


def test_what_a_suspect_is_depends_on_the_victim():
    """Copies of one victim are strangers to the other, or siblings where both come from one public model."""
    base = "train(mlp(width=16), digits(size=8), epochs=1, seed=0)"
    task = "transfer(only(digits(size=8), classes=[0, 1, 2]), epochs=1, seed={})"
    victims = (
        *(parse_recipe(f"{base} -> {task.format(seed)}") for seed in (1, 2)),
        parse_recipe(base.replace("0)", "3)")),
    )
    suite = tiny_suite(victims=victims, derived=(Derived("int8", "quantise(int8)"),), crossed=True)
    copies = [suspect.kinds for suspect in suite.suspects() if suspect.label == "int8"]
    assert copies == [
        {0: "derived", 1: "sibling", 2: "independent"},
        {1: "derived", 0: "sibling", 2: "independent"},
        {2: "derived", 0: "independent", 1: "independent"},
    ]
    strangers = [suspect for suspect in suite.suspects() if suspect.group == "same"]
    assert all(set(suspect.kinds.values()) == {"independent"} for suspect in strangers)
    assert not any(suspect.family for suspect in strangers)
    counted = [suspect.kinds[1] for suspect in replace(suite, siblings="independent").suspects()]
    assert "sibling" not in counted


def test_marks_meet_every_removal_that_takes_a_net():
    rows = SUITES["marks/small"]().derived
    done = {parse(step).name for row in rows if row.removal for step in row.removal.split(" -> ")}
    assert done | set(UNFIT) == set(REMOVALS), "a new removal stands in marks/small, or in UNFIT with a reason"
    assert not done & set(UNFIT)
    pairs = [row for row in rows if " -> " in row.removal]
    alone = {row.removal for row in rows}
    assert pairs
    assert all(step in alone for row in pairs for step in row.removal.split(" -> ")), "each step of a pair is a row too"
