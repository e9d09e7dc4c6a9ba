"""What moved between two results: paired by victim, else by intervals that do not meet."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from whorl.bench.difference import compare
from whorl.bench.result import Cell, Extraction, Result, describe_machine
from whorl.metrics import auc, auc_interval, clopper_pearson

VICTIMS = 4


def result(shift=0.0, *, victims=range(VICTIMS), copies=8, strangers=10, seed=0, schemes=("random",), **changes):
    """Copies ``shift`` higher than drawn; the draws of a victim are its own, in every result of one seed."""
    cells = []
    for number, victim in enumerate(victims):
        for scheme in schemes:
            generator = np.random.default_rng([seed, victim])
            drawn = generator.normal(1, 1, copies), generator.normal(0, 1, strangers)
            cells += [_cell(number, scheme, f"copy {i}", value + shift) for i, value in enumerate(drawn[0])]
            cells += [_cell(number, scheme, f"net {i}", value, "independent") for i, value in enumerate(drawn[1])]
    fields = {
        "suite": "made/up",
        "about": "numbers",
        "limit": 0,
        "alpha": 0.05,
        "budget": 50,
        "columns": list(schemes),
        "chosen": "",
        "sweep": {},
        "rows": ["FTAL", "labels"],
        "groups": ["net"],
        "victims": [f"train(mlp, digits, seed={victim})" for victim in victims],
        "victim_accuracy": [0.9] * len(victims),
        "null_size": 19,
        "paper": {},
        "machine": describe_machine("cpu"),
        "extractions": [
            Extraction(
                victim=number, scheme=scheme, expression=scheme, seconds=1, notes={}, null=[], known={}, inputs=50
            )
            for number in range(len(victims))
            for scheme in schemes
        ],
        "cells": cells,
        "layout": "field",
    }
    return Result(**(fields | changes))


def _cell(victim, scheme, suspect, similarity, kind="derived"):
    row = {"derived": ("FTAL", "fine-tune") if int(suspect[-1]) % 2 else ("labels", "extract")}.get(kind, ("net", ""))
    return Cell(
        victim=victim,
        scheme=scheme,
        suspect=suspect,
        group=row[0],
        kind=kind,
        similarity=float(similarity),
        accuracy=0.9,
        damaged=False,
        decision="derived" if similarity > 2 else "inconclusive",
        p_value=0.05,
        spent=50,
        needed=10,
        family=row[1],
    )


def figures(comparison):
    return {(each.figure, each.family): each for each in comparison.figures}


def by_victim(of):
    return [
        auc(
            [cell.similarity for cell in of.cells if cell.victim == victim and cell.kind == "derived"],
            [cell.similarity for cell in of.cells if cell.victim == victim and cell.kind == "independent"],
        )
        for victim in range(len(of.victims))
    ]


def test_nothing_moves_between_a_result_and_itself():
    found = compare(result(), result())
    assert set(figures(found)) == {
        (figure, family)
        for figure in ("power", "auc", "tpr", "accused")
        for family in ("", "fine-tune", "extract")
        if figure != "accused" or not family
    }
    assert found.moved == ()
    assert (found.only_first, found.only_second) == ((), ())
    assert all((each.interval.low, each.interval.high, each.change) == (0, 0, 0) for each in found.figures)


def test_a_paired_difference_is_the_mean_over_victims_and_has_a_t_interval():
    one, other = result(), result(0.4)
    found = figures(compare(one, other))["auc", ""]
    changes = np.subtract(by_victim(other), by_victim(one))
    assert found.change == pytest.approx(changes.mean())
    assert (found.rule, found.victims) == ("paired", VICTIMS)
    half = t.ppf(0.975, VICTIMS - 1) * np.sqrt(changes.var(ddof=1) / VICTIMS + 1 / (12 * 8**2 * VICTIMS))
    expected = changes.mean() - half, changes.mean() + half
    assert [found.interval.low, found.interval.high] == pytest.approx(expected)
    assert found.moved == (expected[0] > 0)


def test_pairing_sees_what_two_intervals_cannot():
    """A small change of every victim the same way, far less than victims differ among each other."""
    many = {"copies": 40, "strangers": 40}
    one, other = result(**many), result(0.15, **many)
    found = figures(compare(one, other))["auc", ""]
    assert found.moved
    assert found.change < 0.1
    renamed = other.model_copy(update={"victims": [f"{victim} " for victim in other.victims]})
    apart = figures(compare(one, renamed))["auc", ""]
    assert (apart.rule, apart.moved) == ("apart", False)
    assert apart.change == pytest.approx(found.change)


def test_moves_in_both_directions_cancel():
    one = result()
    cells = [
        cell.model_copy(update={"similarity": cell.similarity + (0.5 if cell.victim % 2 else -0.5)})
        if cell.kind == "derived"
        else cell
        for cell in one.cells
    ]
    assert not figures(compare(one, one.model_copy(update={"cells": cells})))["auc", ""].moved


def test_other_victims_are_compared_by_intervals():
    near, far = result(victims=range(10, 22)), result(3.0, victims=range(30, 42))
    found = figures(compare(near, far))["auc", ""]
    assert (found.rule, found.victims, found.interval, found.moved) == ("apart", 0, None, True)
    again = compare(near, result(victims=range(30, 42)))
    assert not figures(again)["auc", ""].moved
    assert "victim train(mlp, digits, seed=10)" in again.only_first
    assert "victim train(mlp, digits, seed=30)" in again.only_second


def test_one_victim_has_delong_s_interval_and_no_interval_of_its_tpr():
    low, high = result(-2.0, victims=(0,), copies=30, strangers=40), result(2.0, victims=(0,), copies=30, strangers=40)
    found = figures(compare(low, high))
    sides = [
        auc_interval(*([c.similarity for c in of.cells if c.kind == kind] for kind in ("derived", "independent")))
        for of in (low, high)
    ]
    assert found["auc", ""].moved == (sides[0].high < sides[1].low) == True  # noqa: E712
    assert (found["tpr", ""].rule, found["tpr", ""].moved) == ("value", False)
    assert found["tpr", ""].change > 0


def test_common_victims_alone_are_paired_whatever_their_order():
    one = result(victims=(0, 1, 2))
    other = result(0.4, victims=(2, 7, 1))
    found = figures(compare(one, other))["auc", ""]
    assert (found.rule, found.victims) == ("paired", 2)
    changes = by_victim(other)[2] - by_victim(one)[1], by_victim(other)[0] - by_victim(one)[2]
    assert found.change == pytest.approx(np.mean(changes))


def test_accusations_are_paired_too():
    one = result()
    cells = [
        cell.model_copy(update={"decision": "derived"}) if cell.kind == "independent" else cell for cell in one.cells
    ]
    found = figures(compare(one, one.model_copy(update={"cells": cells})))["accused", ""]
    assert found.second == 1
    assert found.moved
    alone = result(victims=(0,))
    accused = [cell.model_copy(update={"decision": "derived"}) for cell in alone.cells]
    exact = figures(compare(alone, alone.model_copy(update={"cells": accused})))["accused", ""]
    assert (exact.rule, exact.moved) == ("apart", True)


def test_power_is_compared_where_both_hold_verdicts():
    """A copy is called derived above 2 here, so that the shift lifts power, over victims in pairs."""
    victims = range(12)
    one, other = result(victims=victims), result(1.0, victims=victims)
    found = figures(compare(one, other))["power", ""]
    copies = [[cell for cell in of.cells if cell.kind == "derived"] for of in (one, other)]
    assert [found.first, found.second] == pytest.approx([np.mean([c.similarity > 2 for c in of]) for of in copies])
    assert (found.rule, found.victims, found.moved) == ("paired", 12, True)
    assert ("power", "extract") in figures(compare(one, other))
    small = figures(compare(one, other.model_copy(update={"null_size": 18})))
    assert {figure for figure, _ in small} == {"auc", "tpr", "accused"}


def test_one_victim_says_nothing_about_another():
    low, high = (result(shift, victims=(victim,), copies=30, strangers=40) for shift, victim in ((-2.0, 0), (2.0, 1)))
    assert {(each.rule, each.moved) for each in compare(low, high).figures if each.figure != "accused"} == {
        ("value", False)
    }


def test_runs_of_equal_truth_seldom_move():
    """Three victims, other copies and independent models: at most the stated share of figures is told to have moved."""
    false = figures_in_all = 0
    for seed in range(60):
        found = compare(result(victims=range(3), seed=seed), result(victims=range(3), seed=1000 + seed))
        false += sum(each.moved for each in found.figures if not each.family)
        figures_in_all += sum(not each.family for each in found.figures)
    assert clopper_pearson(false, figures_in_all, 0.998).low <= 0.05


def test_what_only_one_has_is_named():
    one = result(schemes=("random", "akh"))
    other = result(schemes=("random", "zest"), rows=["FTAL"], suite="other/suite")
    found = compare(one, other)
    assert found.only_first == ("suite made/up", "scheme akh as akh", "row labels")
    assert found.only_second == ("suite other/suite", "scheme zest as zest")
    assert {each.scheme for each in found.figures} == {"random"}


def test_other_settings_of_a_scheme_are_compared_and_named():
    one = result()
    made = [each.model_copy(update={"expression": "random(start=noise)"}) for each in one.extractions]
    found = compare(one, one.model_copy(update={"extractions": made}))
    assert found.figures
    assert (found.only_first, found.only_second) == (
        ("scheme random as random",),
        ("scheme random as random(start=noise)",),
    )


def test_the_largest_move_comes_first():
    found = compare(result(victims=range(8)), result(1.6, victims=range(8)))
    changes = [abs(each.change) for each in found.moved]
    assert found.by_chance == pytest.approx(0.05 * len(found.figures))
    assert changes == sorted(changes, reverse=True)
    assert changes
