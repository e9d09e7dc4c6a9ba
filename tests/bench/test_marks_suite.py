"""A suite of marks: each mark meets its own copies, draws accuse as promised, and a forged mark convinces nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_suite import models

from whorl.bench.mark_table import MARKED, killers, mark_rows
from whorl.bench.result import read_result, write_result
from whorl.bench.runner import run
from whorl.bench.submission import problems
from whorl.cli.mark_tables import mark_tables
from whorl.errors import UsageError
from whorl.suites.contract import check_suite
from whorl.suites.suite import MARK, Derived, Suite
from whorl.zoo.cache import Zoo
from whorl.zoo.marked import checks_of
from whorl.zoo.recipe import parse_recipe

SETTINGS = "digits(size=8), epochs=4"
NET = "mlp(width=32)"


def suite(**changes):
    fields = {
        "name": "tiny marks",
        "about": "digits at 8 px; perceptrons",
        "data": "digits(size=8)",
        "victims": models(NET, SETTINGS, range(1)),
        "derived": (
            Derived(MARKED, ""),
            Derived("int8", "quantise(int8)"),
            Derived("overwrite", f"overwrite({MARK}, count=30, seed=500)"),
            Derived("labels", f"extract('{NET}', epochs=2, seed=500)"),
        ),
        "independents": {"strangers": models(NET, SETTINGS, (10, 11))},
        "null": models(NET, SETTINGS, range(20, 22)),
        "schemes": {
            "backdoor": "backdoor(learning_rate=0.1)",
            "uchida": "uchida",
            "frontier": "frontier(epsilon=0.08)",
        },
        "budget": 40,
        "alpha": 1e-6,
        "layout": "marks",
    }
    return Suite(**(fields | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("marks")


@pytest.fixture(scope="module")
def result(folder):
    return run(suite(), folder=folder, workers=1, command="whorl bench run tiny marks")


def test_the_suite_is_sound():
    check_suite(suite())
    assert len({each.recipe.digest for each in suite().suspects()}) == 3 * 4 + 2


def test_every_mark_meets_its_own_copies_alone(result):
    for cell in result.cells:
        assert cell.kind == "independent" or cell.suspect.endswith(f", {cell.scheme}")
    assert len(result.cells) == 3 * (4 + 2)
    assert problems(result) == []


def test_a_mark_is_seen_before_removal_and_after_light_ones(result):
    rows = {row.name: row for row in mark_rows(result)}
    for name in ("backdoor", "uchida"):
        assert rows[name].after[MARKED].survived == rows[name].after["int8"].survived == 1, name
    assert rows["uchida"].after["overwrite"].log10_p[0] < -3, "the first mark stays beside the second"
    assert killers(list(rows.values()), "labels") == ["backdoor", "uchida"]


def test_what_draws_nothing_is_ranked_among_strangers(result):
    frontier = mark_rows(result)[2]
    assert (frontier.null, frontier.accused, frontier.forged) == ("population", {}, {})
    assert frontier.after[MARKED].log10_p == pytest.approx((-0.47712,), abs=1e-4)  # 1 of 2 + 1
    assert frontier.accepted["strangers"].count == 2


def test_draws_accuse_strangers_as_rarely_as_the_design_says(result):
    for row in mark_rows(result)[:2]:
        share = row.accused["strangers"]
        assert share.count == 50 * 2
        assert row.level <= 0.01
        assert share.hits <= 1 + 4, row.name


def test_a_forged_mark_convinces_nobody(result):
    for row in mark_rows(result)[:2]:
        chosen, alone, counted, honest = (row.forged[attack] for attack in row.forged)
        assert all(each.p_value < 1e-10 and each.grade == "D" and not each.exact for each in chosen)
        assert all(each.grade == "D" and each.p_value < 0.3 for each in alone)
        assert all(each.grade == "B" and each.p_value > 1e-4 for each in (*counted, *honest))
        assert not any(each.accuses for tries in row.forged.values() for each in tries)


def test_a_result_keeps_the_figures_and_the_table_shows_them(result, tmp_path):
    write_result(result, tmp_path / "r.json")
    again = read_result(tmp_path / "r.json")
    assert mark_rows(again) == mark_rows(result)
    shown = "\n".join(str(line) for each in mark_tables(again, mark_rows(again)) for line in _lines(each))
    assert "played both parties" in shown
    assert "1/1" in shown


def _lines(shown):
    return shown.lines(shown.places(None), None) if hasattr(shown, "lines") else [shown]


def test_a_second_run_computes_nothing(result, folder):
    seen = []
    again = run(suite(), folder=folder, workers=1, command="again", progress=lambda *each: seen.append(each))
    assert [(done, total) for _, done, total in seen] == [(total, total) for _, _, total in seen]
    assert again.cells == result.cells


def test_some_marks_alone(folder):
    part = run(suite(), folder=folder, schemes="uch*", removals="int8", workers=1, command="part")
    assert part.columns == ["uchida"]
    assert part.rows == [MARKED, "int8"]
    with pytest.raises(UsageError, match="are the marks backdoor"):
        run(suite(), folder=folder, schemes="akh")
    with pytest.raises(UsageError, match="no removal of tiny marks"):
        suite().attacked("distil")


def test_what_checks_a_mark_comes_again_from_its_recipe(result, folder):
    zoo = Zoo(folder)
    recipe = suite().marked(0, "backdoor(learning_rate=0.1)", 40)
    assert recipe.victim == suite().victims[0]
    assert recipe.then("quantise(int8)").victim == recipe
    first, second = checks_of(zoo, recipe), checks_of(zoo, recipe)
    assert first.nonce == second.nonce
    assert (first.reference.values == second.reference.values).all()
    marked = zoo.oracle(recipe)
    assert (marked.labels(first.queries.inputs) == first.reference.values).all()
    with pytest.raises(UsageError, match="none to check"):
        checks_of(zoo, suite().victims[0])


def test_a_mark_of_no_kind_is_refused():
    with pytest.raises(UsageError, match="akh"):
        parse_recipe(f"train({NET}, {SETTINGS}) -> mark(akh)")
    with pytest.raises(AssertionError, match="doubles"):
        check_suite(replace(suite(), derived=(Derived("a", "quantise(int8)"), Derived("b", "quantise(format=int8)"))))
