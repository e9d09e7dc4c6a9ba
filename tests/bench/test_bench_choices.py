"""What keys, tables and standings rest on, by what they hold."""

from __future__ import annotations

import dataclasses

import pytest
from test_standings import cell, cells_of, refusal, result  # noqa: F401
from tiny_suite import least_suite

from whorl.bench import jobs, runner
from whorl.bench.age import older_columns
from whorl.bench.export import write_table
from whorl.bench.parts import of_victim
from whorl.bench.standings import standings
from whorl.bench.submission import problems
from whorl.schemes import SCHEMES
from whorl.zoo.code import code_of, code_of_model


def test_a_fingerprint_is_of_the_code_of_its_scheme_and_of_all_models_it_is_calibrated_by(tmp_path, monkeypatch):
    suite, seen = least_suite(), []
    monkeypatch.setattr(jobs, "digest_of", lambda code: seen.append(code) or "one")
    (first, *_) = jobs.jobs_of(suite, ["fgsm"], tmp_path)
    assert {"whorl.bench.work"} | code_of(SCHEMES, "fgsm") <= seen[0]
    assert all(code_of_model(recipe) <= seen[0] for recipe in (suite.victims[0], *suite.null))
    monkeypatch.setattr(jobs, "digest_of", lambda _: "another")
    assert jobs.jobs_of(suite, ["fgsm"], tmp_path)[0].path != first.path


def test_a_cell_is_of_the_code_of_its_fingerprint_and_of_its_suspect(tmp_path, monkeypatch):
    suite, seen = least_suite(), []
    (job, *_) = jobs.jobs_of(suite, ["fgsm"], tmp_path)
    (tmp_path / "fingerprints").mkdir()
    (tmp_path / "fingerprints" / "x").write_text("x")
    job = dataclasses.replace(job, path=str(tmp_path / "fingerprints" / "x"))
    monkeypatch.setattr(runner, "digest_of", lambda code: seen.append(code) or "one")
    suspects = [each for each in suite.suspects() if "int8" in each.label]
    runner._keys(suspects, [[job]] * len(suspects), 0.1)
    assert all(job.code | code_of_model(suspect.recipe) <= each for each, suspect in zip(seen, suspects, strict=True))


def test_schemes_and_lineups_that_are_asked_for_are_columns_beside_each_other():
    suite, columns = runner._chosen(least_suite(), "random", True, "")
    assert columns == ["random", "lineup", "lineup, labels"]
    assert set(columns) <= suite.schemes.keys()


@pytest.mark.parametrize("expression", ["lineup", "lineup(scores=mixture)"])
def test_a_lineup_is_older_where_its_own_code_changed(result, expression):  # noqa: F811
    made = [each.model_copy(update={"expression": expression}) for each in result.extractions if each.scheme == "wide"]
    older = {"whorl.bench.lineups": "0"}
    found = older_columns(result.model_copy(update={"extractions": made, "columns": ["wide"], "revisions": older}))
    assert "whorl.bench.lineups: 0, now" in found["wide"]


def test_what_was_asked_of_one_victim_makes_it_the_only_one(result):  # noqa: F811
    alone = of_victim(result, 1)
    assert (alone.victims, alone.victim_accuracy) == (["b"], [0.9])
    assert {each.victim for each in [*alone.cells, *alone.extractions, *alone.refusals]} == {0}
    wanted = [each.similarity for each in result.cells if each.victim == 1]
    assert [each.similarity for each in alone.cells] == wanted


def test_a_similarity_of_just_one_has_an_area_under_robustness(result):  # noqa: F811
    cells = [cell("random", 0, "whole", 1.0, family="fine-tune"), *cells_of("random")]
    (row,) = standings(result.model_copy(update={"cells": cells, "columns": ["random"]}))
    assert row.aruc is not None


def test_a_refused_model_is_in_no_area_where_similarities_are_below_0(result):  # noqa: F811
    """Scored 0 it would be the nearest of all."""
    cells = [*cells_of("random", shift=-10)]
    refused = [refusal("random", 0, "forest", "independent"), refusal("random", 1, "odd", "derived", "fine-tune")]
    plain, (row,) = (
        standings(result.model_copy(update={"cells": cells, "columns": ["random"], "refusals": each}))
        for each in ([], refused)
    )
    for name in ("auc", "tpr", "families"):
        assert getattr(row, name) == getattr(plain[0], name)
    assert row.answered < plain[0].answered == 1


def test_marks_of_a_suite_that_nobody_defined_are_held_against_each_other(result):  # noqa: F811
    told = problems(result.model_copy(update={"layout": "marks", "suite": "nobodys"}))
    assert any("wide: victim" in each or "random: victim" in each for each in told)


def test_tables_have_plain_line_ends_and_a_tab_starts_no_formula(result, tmp_path):  # noqa: F811
    named = [cell("random", 0, "\t=1+1", 0.5, family="fine-tune")]
    write_table(result.model_copy(update={"cells": named, "refusals": []}), tmp_path / "cells.csv")
    held = (tmp_path / "cells.csv").read_bytes()
    assert b"'\t=1+1" in held
    assert b"\r" not in held
