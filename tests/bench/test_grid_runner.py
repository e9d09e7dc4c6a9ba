"""The grid shares questions and answers, and gives each cell what it would have had alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tiny_suite import tiny_suite

from whorl.bench.grid import plan, run_grid
from whorl.bench.grid_result import ALL, figures, read_grid, write_grid, write_similarities
from whorl.data import SOURCES
from whorl.errors import InvalidFile, UsageError
from whorl.metrics import auc
from whorl.schemes import SCHEMES
from whorl.storage import read_json, write_json
from whorl.suites.suite import Derived
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe

POINTS = "random+*,negative+labels+hamming,adversarial+ddv+cosine,random-subsample+lime+l2,train-boundary+scores+cosine"
VICTIM = "train(mlp(width=16), only(digits(size=8), classes=[0, 1]), epochs=20, batch=20, seed={})"
OTHER = Derived("classes", "transfer(only(digits(size=8), classes=[0, 1, 2]), epochs=1, seed=500)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("grid")


@pytest.fixture(scope="module")
def grid():
    suite = tiny_suite(derived=(Derived("int8", "quantise(int8)"), OTHER))
    return plan(suite, schemes=POINTS, budgets=(20, 40), seeds=2)


@pytest.fixture(scope="module")
def cells(grid, folder):
    return run_grid(grid, folder=folder, workers=1)


def alone(grid, zoo, name, victim, suspect, seed):
    """One cell, computed as a scheme by itself at the largest budget."""
    scheme = SCHEMES.make(f"{name}(masks=10)" if "subsample" in name else name)
    each = {"adversarial": 2, "random-subsample": 10}.get(name.split("+")[0], 1)
    data = SOURCES.make(grid.suite.data).load(scheme.part)
    made = scheme.extract(zoo.oracle(grid.suite.victims[victim]), data, budget=40 // each, seed=seed)
    return scheme.observe(made, zoo.oracle(suspect.recipe)).similarity


def test_each_cell_is_what_the_scheme_says_alone(grid, cells, folder):
    zoo = Zoo(folder)
    for (victim, number), table in cells.similarities.items():
        suspect = cells.suspects[number]
        if victim == 1 or suspect.label not in ("int8", "same 1", "random forest 1"):
            continue
        for name in grid.combinations:
            for seed in grid.seeds:
                expected = alone(grid, zoo, name, victim, suspect, seed)
                assert table[name][40][seed] == pytest.approx(expected, abs=2e-6), (name, suspect.label)


def test_budgets_are_nested_and_shorter_ones_differ(grid, cells):
    values = [table["random+labels+hamming"] for table in cells.similarities.values()]
    known = [value for value in values if not math.isnan(value[20][0])]
    assert any(value[20] != value[40] for value in known)
    for value in known:
        for seed in (0, 1):
            assert 20 * value[20][seed] <= 40 * value[40][seed] + 1e-6 <= 20 * value[20][seed] + 20 + 2e-6


def test_suspects_of_other_classes_answer_only_what_they_can(grid, cells):
    for (_, number), table in cells.similarities.items():
        if cells.suspects[number].label == "classes":
            able = {name for name, values in table.items() if not math.isnan(values[40][0])}
            assert {"random+sac+l1", "random+hard-sac+hamming", "adversarial+ddv+cosine"} <= able
            assert not able & {"random+labels+hamming", "random+scores+l2", "train-boundary+scores+cosine"}


def test_every_suspect_is_asked_about_each_set_once(grid, cells):
    sets = {name.split("+")[0] for name in grid.combinations}
    meetings = sum(len(suspect.kinds) for suspect in cells.suspects)
    assert cells.inputs == meetings * len(sets) * len(grid.seeds) * 40
    assert grid.cells == meetings * len(grid.combinations) * len(grid.seeds) * 2


def test_nothing_is_computed_twice(grid, cells, folder):
    made = {path: path.stat().st_mtime_ns for path in (folder / "queries").iterdir()}
    again = run_grid(grid, folder=folder, workers=1)
    assert str(again.similarities) == str(cells.similarities)  # as text, where NaN equals itself
    assert {path: path.stat().st_mtime_ns for path in (folder / "queries").iterdir()} == made
    fresh = run_grid(grid, folder=folder, workers=1, fresh=True)
    assert str(fresh.similarities) == str(cells.similarities)
    assert fresh.asking_seconds != cells.asking_seconds
    assert all(path.stat().st_mtime_ns > stamp for path, stamp in made.items())


def test_figures_are_of_the_cells(grid, cells, tmp_path):
    result = figures(grid, cells, command="whorl bench grid tiny", wall_seconds=1.0)
    areas = []
    for victim in (0, 1):
        for seed in (0, 1):
            values = {
                cells.suspects[number].label: table["random+labels+hamming"][40][seed]
                for (owner, number), table in cells.similarities.items()
                if owner == victim
            }
            areas.append(auc([values["int8"]], [values[name] for name in ("same 1", "same 2", "random forest 1")]))
    found = result.of("random+labels+hamming", 40, "int8")
    assert found.auc == pytest.approx(sum(areas) / 4, abs=1e-4)
    assert (found.lowest, found.highest) == pytest.approx((min(areas), max(areas)), abs=1e-4)
    whole = result.of("random+labels+hamming", 40)
    assert (whole.auc, whole.answered) == (found.auc, 0.5)  # one of the two copies cannot answer and is in no figure
    assert whole.at_worst(whole.auc) == whole.auc / 2
    with pytest.raises(KeyError):
        result.of("random+labels+hamming", 40, "classes")
    assert result.of("random+sac+l1", 40).answered == 1
    assert found.auc_interval is None  # of two victims
    write_grid(result, tmp_path / "grid.json")
    assert read_grid(tmp_path / "grid.json") == result
    assert result.of("random+labels+hamming", 20, ALL).copies >= 2


def test_copies_that_lost_their_accuracy_are_in_no_figure(grid, cells):
    """However near they are: a thief has no use for them, and no scheme is better for finding them."""
    labels = [suspect.label for suspect in cells.suspects]
    hurt = tuple(label == "int8" for label in labels)
    result = figures(grid, replace(cells, damaged=hurt), command="", wall_seconds=1.0)
    for name in grid.combinations:
        with pytest.raises(KeyError):
            result.of(name, 40, "int8")
    kept = figures(grid, replace(cells, damaged=(False,) * len(labels)), command="", wall_seconds=1.0)
    assert kept.of("random+sac+l1", 40).copies == 2 * result.of("random+sac+l1", 40).copies


def test_what_could_not_be_asked_is_left_out_whatever_the_scale(grid, cells):
    """Similarities below 0, as minus a distance is: a refusal that counted as 0 would be the nearest copy of all."""
    moved = {
        pair: {
            name: {budget: [value - 10 for value in row] for budget, row in table.items()} for name, table in of.items()
        }
        for pair, of in cells.similarities.items()
    }
    before, after = (
        figures(grid, each, command="", wall_seconds=1.0) for each in (cells, replace(cells, similarities=moved))
    )
    assert [each.answered for each in before.figures] == [each.answered for each in after.figures]
    assert min(each.answered for each in after.figures) < 1
    for one, two in zip(before.figures, after.figures, strict=True):
        assert (one.auc, one.tpr, one.copies) == (two.auc, two.tpr, two.copies)


def test_similarities_are_exported(grid, cells, tmp_path):
    import pyarrow.parquet as pq

    write_similarities(grid, cells, tmp_path / "cells.parquet")
    table = pq.read_table(tmp_path / "cells.parquet")
    assert table.num_rows == grid.cells
    given = [
        value
        for of in cells.similarities.values()
        for by_budget in of.values()
        for values in by_budget.values()
        for value in values
    ]
    assert table.column("similarity").to_pylist() == [None if math.isnan(value) else value for value in given]
    assert any(map(math.isnan, given))
    assert set(table.column("combination").to_pylist()) == set(grid.combinations)


def test_damaged_results_are_refused(grid, cells, tmp_path):
    path = tmp_path / "grid.json"
    write_grid(figures(grid, cells, command="", wall_seconds=1.0), path)
    document = read_json(path)
    write_json(path, document | {"budgets": "many"})
    with pytest.raises(InvalidFile, match="budgets"):
        read_grid(path)
    write_json(path, document | {"figures": {"fields": ["auc"], "rows": [[1, 2]]}})
    with pytest.raises(InvalidFile, match="figures"):
        read_grid(path)


@pytest.mark.parametrize("wrong", [{"schemes": "nothing+*"}, {"budgets": (5,)}, {"budgets": ()}, {"seeds": 0}])
def test_plans_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError, match="grid"):
        plan(tiny_suite(), **wrong)


def test_queries_that_a_victim_cannot_give_are_refused_and_left_out(folder):
    """A perceptron this small errs on few of these pictures, so there are too few negatives without mixtures."""
    suite = tiny_suite(derived=(Derived("int8", "quantise(int8)"),), data="only(digits(size=8), classes=[0, 1])")
    suite = replace(suite, victims=tuple(parse_recipe(VICTIM.format(seed)) for seed in (0, 1)))
    grid = plan(suite, schemes="negative-augment+labels+hamming,random+sac+l1", budgets=(10,), seeds=1)
    cells = run_grid(grid, folder=folder, workers=1)
    result = figures(grid, cells, command="", wall_seconds=1.0)
    assert result.of("random+sac+l1", 10).copies == 2
    assert list(result.refused) == ["victim 1, negative-augment", "victim 2, negative-augment"]
    assert "errors" in result.refused["victim 1, negative-augment"]
    with pytest.raises(KeyError):
        result.of("negative-augment+labels+hamming", 10)
