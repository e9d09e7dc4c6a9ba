"""What a result must be before a leaderboard shows it: a sound one passes, and each lie in it is named."""

from __future__ import annotations

import json

import pytest
from tiny_suite import tiny_suite

from whorl.bench import submission
from whorl.bench.result import Refusal, write_result
from whorl.bench.runner import run
from whorl.bench.submission import problems, read_submission
from whorl.errors import UsageError
from whorl.suites.suite import SUITES


@pytest.fixture(scope="module", autouse=True)
def known():
    """The tiny suite is known by name, as one of a plug-in is."""
    SUITES._targets["tiny"] = "tiny_suite:tiny_suite"
    yield
    del SUITES._targets["tiny"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return run(tiny_suite(), folder=folder, workers=1, command="whorl bench run tiny")


def changed(result, number=0, **fields):
    """The result with one of its cells changed."""
    cells = [*result.cells]
    cells[number] = cells[number].model_copy(update=fields)
    return result.model_copy(update={"cells": cells})


def of_kind(result, kind):
    return next(number for number, cell in enumerate(result.cells) if cell.kind == kind)


def only(result):
    (problem,) = problems(result)
    assert "\n" not in problem
    return problem


def test_what_a_run_leaves_behind_is_sound(sound):
    assert problems(sound) == []


def test_a_limited_run_and_a_choice_of_rows_are_sound(tmp_path):
    part = tiny_suite().limited(1)
    result = run(part, folder=tmp_path, schemes="random", removals="quan*", workers=1, command="whorl bench run tiny")
    assert problems(result) == []
    assert problems(result.model_copy(update={"limit": 0}))[0].startswith("victims of tiny are train(")
    assert "does not exist" in problems(result.model_copy(update={"removals": "nobody"}))[0]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"similarity": float("inf")}, "similarities are not finite"),
        ({"p_value": 1.5}, "p-values are outside"),
        ({"p_value": 0.001}, "p-values are below 1/(N + 1)"),
        ({"accuracy": 1.2}, "accuracies are above 1"),
        ({"seconds": -1.0}, "durations are negative"),
        ({"needed": 31}, "more were needed than spent"),
        ({"decision": "guilty"}, "decisions are no verdict"),
        ({"decision": "derived", "p_value": 0.9}, "called derived with a p-value above alpha 0.25"),
        ({"damaged": True}, "damaged"),
    ],
)
def test_a_number_that_cannot_be_is_named(sound, fields, told):
    assert told in " | ".join(problems(changed(sound, of_kind(sound, "derived"), **fields)))


def test_a_cell_too_few_and_a_cell_too_many_are_named(sound):
    assert only(sound.model_copy(update={"cells": sound.cells[1:]})) == "random: victim 1 lacks int8 (derived)"
    assert only(sound.model_copy(update={"cells": [*sound.cells, sound.cells[0]]})) == (
        "random: victim 1 has too many of int8 (derived)"
    )
    first = sound.cells[0]
    fields = first.model_dump(include={"victim", "scheme", "suspect", "group", "kind", "family", "damaged"})
    refused = Refusal(**fields, reason="grants too little")
    assert problems(sound.model_copy(update={"cells": sound.cells[1:], "refusals": [refused]})) == []


def test_without_a_definition_the_schemes_are_held_against_each_other(sound):
    other = sound.model_copy(update={"suite": "nobodys", "command": "whorl bench run nobodys"})
    assert problems(other) == []
    assert only(other.model_copy(update={"cells": other.cells[1:]})) == "random: victim 1 lacks int8 (derived)"
    assert "has too many of" in only(other.model_copy(update={"cells": [*other.cells, other.cells[0]]}))
    stranger = of_kind(other, "independent")
    lacking = [cell for number, cell in enumerate(other.cells) if number != stranger]
    assert "lacks same 1 (independent)" in only(other.model_copy(update={"cells": lacking}))


def test_copies_of_other_victims_share_their_label(sound):
    """As where suites are crossed: to victim 1 the copies of two others are independent, and both are called int8."""
    strange = {"kind": "independent", "victim": 0, "suspect": "int8", "group": "int8", "damaged": False}
    schemes = {cell.scheme for cell in sound.cells}
    first = [next(cell for cell in sound.cells if cell.scheme == scheme) for scheme in sorted(schemes)]
    crossed = [cell.model_copy(update=strange) for cell in first for _ in range(2)]
    other = sound.model_copy(
        update={"suite": "nobodys", "command": "whorl bench run nobodys", "cells": [*sound.cells, *crossed]}
    )
    assert problems(other) == []
    fewer = other.model_copy(update={"cells": other.cells[:-1]})
    assert "lacks int8 (independent)" in only(fewer)


def test_a_suite_is_known_or_described(sound):
    other = sound.model_copy(update={"suite": "nobodys", "command": "whorl bench run nobodys", "about": " "})
    assert only(other) == "'nobodys' is no suite that is known here, and about does not describe it"
    unread = other.model_copy(update={"about": "mine", "victims": ["a net", other.victims[1]]})
    assert any("the recipe of a victim cannot be read" in problem for problem in problems(unread))


def test_a_suite_that_was_changed_is_named(sound):
    assert only(sound.model_copy(update={"alpha": 0.5})) == "alpha of tiny are 0.25, not 0.5"
    swapped = sound.model_copy(update={"victims": sound.victims[::-1]})
    assert any(problem.startswith("victims of tiny are") for problem in problems(swapped))


def test_schemes_must_bind_and_be_those_of_the_suite(sound):
    def made(old, new):
        return [
            each.model_copy(update={"expression": new}) if each.scheme == old else each for each in sound.extractions
        ]

    unknown = only(sound.model_copy(update={"extractions": made("random", "mine(depth=3)")}))
    assert unknown.startswith("random: its package is not installed here, or its settings are unknown")
    other = only(sound.model_copy(update={"extractions": made("random", "random(start=noise)")}))
    assert other == "random: tiny runs it as random, not as random(start=noise)"
    renamed = [each.model_copy(update={"scheme": "mine"}) if each.scheme == "random" else each for each in sound.cells]
    mine = [
        each.model_copy(update={"scheme": "mine"}) if each.scheme == "random" else each for each in sound.extractions
    ]
    update = {"columns": ["mine", "fgsm"], "cells": renamed, "extractions": mine}
    assert only(sound.model_copy(update=update)) == "mine: tiny has no such column"


def test_any_scheme_as_it_is_may_join_a_suite(sound):
    def joined(expression):
        cells = [cell.model_copy(update={"scheme": "akh"}) for cell in sound.cells if cell.scheme == "random"]
        made = [
            each.model_copy(update={"scheme": "akh", "expression": expression})
            for each in sound.extractions
            if each.scheme == "random"
        ]
        columns = [*sound.columns, "akh"]
        both = {"cells": [*sound.cells, *cells], "extractions": [*sound.extractions, *made]}
        return sound.model_copy(update={"columns": columns, **both})

    assert problems(joined("akh")) == []
    assert "akh: tiny runs it as akh, not as akh(" in only(joined("akh(augment=false)"))


def test_every_victim_has_one_fingerprint_of_each_scheme(sound):
    fewer = sound.model_copy(update={"extractions": sound.extractions[1:]})
    found = problems(fewer)
    assert "random: 0 fingerprints of victim 1, not one" in found
    assert "random: judged suspects of victim 1 without a fingerprint" in found
    twice = sound.model_copy(update={"extractions": [*sound.extractions, sound.extractions[0]]})
    assert only(twice) == "random: 2 fingerprints of victim 1, not one"


def test_verdicts_need_a_null_that_allows_them(sound):
    derived = changed(sound, 0, decision="derived", p_value=0.2)
    none = [each.model_copy(update={"null": each.null[:2]}) for each in derived.extractions]
    found = problems(derived.model_copy(update={"extractions": none, "null_size": 2}))
    assert "null_size of tiny are 4, not 2" in found
    assert any("called derived at alpha 0.25, which needs a null of 3; this one has 2" in line for line in found)
    short = [sound.extractions[0].model_copy(update={"null": [0.5]}), *sound.extractions[1:]]
    assert only(sound.model_copy(update={"extractions": short})) == "random: a null of 1 for victim 1, not of 4"


def test_a_lineup_needs_twins_and_no_null(sound):
    """Columns of lineups beside schemes of a null too small for alpha."""
    made = [
        each.model_copy(update={"scheme": "lineup", "expression": "lineup", "null": []})
        for each in sound.extractions
        if each.scheme == "random"
    ]
    cells = [each.model_copy(update={"scheme": "lineup"}) for each in sound.cells if each.scheme == "random"]
    result = sound.model_copy(
        update={"columns": ["lineup"], "extractions": made, "cells": cells, "chosen": "", "sweep": {}}
    )
    result = changed(result, decision="derived", p_value=0.25)
    assert problems(result) == []
    assert "below 1/(N + 1)" in only(changed(result, decision="derived", p_value=0.24))
    few = problems(result.model_copy(update={"null_size": 2}))
    assert few == ["null_size of tiny are 4, not 2"], "which is no lineup's"
    assert "below 1/(N + 1)" in only(changed(sound, p_value=0.19)), "of four models"
    assert problems(changed(sound, p_value=0.2)) == []


def test_models_are_those_of_the_suite_and_none_is_in_the_null(sound):
    null = str(tiny_suite().null[0])
    swapped = [*sound.models[:-1], sound.models[-1].model_copy(update={"recipe": null})]
    found = problems(sound.model_copy(update={"models": swapped}))
    assert any(problem.startswith("a model under test is in the null: train(") for problem in found)
    assert any(problem.startswith("the models lack train(architecture=random_forest") for problem in found)
    assert any(problem.startswith("the models add train(") for problem in found)
    unread = [sound.models[0].model_copy(update={"recipe": "a net"}), *sound.models[1:]]
    assert any(
        "recipe of a model cannot be read" in line for line in problems(sound.model_copy(update={"models": unread}))
    )


def test_accuracies_are_those_of_the_models(sound):
    number = of_kind(sound, "derived")
    told = "1 cells whose accuracy or damaged flag is not that of their model"
    assert only(changed(sound, number, accuracy=sound.cells[number].accuracy - 0.001)) == told
    bare = sound.model_copy(update={"models": []})
    assert problems(bare) == []
    flag = sound.cells[number].damaged
    assert "damaged flag does not follow" in only(changed(bare, number, damaged=not flag))


def test_a_copy_on_other_pictures_is_held_against_its_victim_there(sound):
    """Both do worse on corrupted pictures, and the copy is no worse than its victim."""
    number = of_kind(sound, "derived")
    cell = sound.cells[number]
    recipe = f"{sound.victims[cell.victim]} -> transfer(corrupt(digits(size=8)), seed=500)"
    lost = {"accuracy": sound.victim_accuracy[cell.victim] - 0.2, "damaged": False}
    place = next(n for n, each in enumerate(sound.models) if (each.label, each.role) == (cell.suspect, cell.group))
    own = (cell.victim, cell.suspect)
    cells = [each.model_copy(update=lost) if (each.victim, each.suspect) == own else each for each in sound.cells]
    assert sound.models[place].victim_accuracy == sound.victim_accuracy[cell.victim]

    def told(there, made=recipe):
        models = [*sound.models]
        models[place] = models[place].model_copy(update={"recipe": made, "victim_accuracy": there, **lost})
        changed = {"suite": "nobodys", "command": "whorl bench run nobodys", "cells": cells, "models": models}
        return [line for line in problems(sound.model_copy(update=changed)) if "damaged flag does not follow" in line]

    assert told(lost["accuracy"] + 0.01) == told(None) == []
    assert len(told(lost["accuracy"] + 0.1)) == 1
    assert len(told(lost["accuracy"] + 0.01, sound.models[place].recipe)) == 1


def test_date_and_command_are_given(sound):
    assert "the date of the run" in only(sound.model_copy(update={"date": "yesterday"}))
    assert only(sound.model_copy(update={"command": ""})) == "the command that runs it again is missing"
    other = sound.model_copy(update={"command": "whorl bench run ipguard/digits"})
    assert only(other) == "the command does not run tiny: whorl bench run ipguard/digits"


def test_sizes_are_bounded(sound, monkeypatch):
    assert only(sound.model_copy(update={"suite": "x" * 5000})) == "a name or expression of more than 4,096 characters"
    assert only(sound.model_copy(update={"victim_accuracy": [0.9]})) == "2 victims and 1 accuracies of victims"
    assert only(changed(sound, 0, victim=7)) == "victim 8 of 2"
    monkeypatch.setattr(submission, "MAX_CELLS", 10)
    assert only(sound).endswith("cells; at most 10 are read")


def test_problems_are_lines_whatever_the_names_hold(sound):
    found = problems(changed(sound, 0, suspect="a\nb\x1b[31m", group="c\u202e"))
    assert found
    assert all(problem.isprintable() for problem in found)


def test_a_file_that_cannot_be_read_is_a_problem(sound, tmp_path):
    path = tmp_path / "result.json"
    write_result(sound, path)
    assert read_submission(path) == (sound, [])
    path.write_text("{")
    result, (problem,) = read_submission(path)
    assert result is None
    assert "is not a JSON document" in problem
    path.write_text(json.dumps({"suite": "tiny"}))
    assert "is not a result" in read_submission(path)[1][0]
    with pytest.raises(UsageError, match="no such file"):
        read_submission(tmp_path / "missing.json")
