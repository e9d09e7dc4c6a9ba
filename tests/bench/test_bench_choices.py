"""What keys, tables and standings rest on, by what they hold."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from test_standings import cell, cells_of, refusal, result  # noqa: F401
from tiny_suite import least_suite

from whorl.bench import jobs, runner
from whorl.bench.age import older_columns
from whorl.bench.export import write_table
from whorl.bench.parts import families_of, of_victim, with_families
from whorl.bench.result import Model, describe_machine
from whorl.bench.standings import standings
from whorl.bench.submission import problems
from whorl.bench.work import peak_memory
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


def test_a_mark_is_older_where_marks_changed_whatever_else_its_settings_name(result):  # noqa: F811
    expression = 'backdoor(other="digits(size=8)")'
    made = [each.model_copy(update={"expression": expression}) for each in result.extractions if each.scheme == "wide"]
    older = {"whorl.bench.marks": "0"}
    found = older_columns(result.model_copy(update={"extractions": made, "columns": ["wide"], "revisions": older}))
    assert "whorl.bench.marks: 0, now" in found["wide"]


def test_families_that_a_result_does_not_hold_are_those_of_its_models(result):  # noqa: F811
    """In cells and refusals alike; what no model names is `other`."""
    made = {"recipe": "", "accuracy": 0.9, "agreement": None, "damaged": False, "queries": 0, "seconds": 1.0}
    known = Model(label="a", role="pruned", family="prune", **made)
    bare = [cell("random", 0, "a", 0.5), cell("random", 0, "b", 0.5), cell("random", 0, "c", 0.5, kind="independent")]
    bare = [bare[0].model_copy(update={"group": "pruned"}), *bare[1:]]
    refused = [refusal("random", 0, "d", "derived").model_copy(update={"group": "pruned"})]
    found = with_families(result.model_copy(update={"models": [known], "cells": bare, "refusals": refused}))
    assert [each.family for each in [*found.cells, *found.refusals]] == ["prune", "other", "", "prune"]
    assert families_of(found) == ["prune", "other"]


def test_only_a_scheme_that_learns_from_copies_has_seen_some(result):  # noqa: F811
    def seen(expression):
        made = [each.model_copy(update={"expression": expression}) for each in result.extractions]
        return {row.seen for row in standings(result.model_copy(update={"extractions": made}))}

    assert seen("conferrable") == {("fine-tune",)}
    assert seen("random") == seen("lineup") == seen("somebodys(plug_in=1)") == {()}


def test_a_machine_has_memory_and_work_is_told_what_it_took_of_it():
    assert describe_machine("cpu").memory_gib > 0
    with peak_memory() as told:
        held = torch.ones(1 << 24)
    assert held.nbytes / 2**20 - 8 < told["peak_mib"] < 4 * held.nbytes / 2**20


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
