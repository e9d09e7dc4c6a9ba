"""``whorl extract`` and ``whorl schemes``: a scheme chosen by what is at hand, shadow models, cards."""

from __future__ import annotations

import json
import sys

import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from skops.io import dump

from whorl import ownership
from whorl.schemes import SCHEMES
from whorl.schemes.cards import card
from whorl.schemes.opening import read_fingerprint
from whorl.types import Access, grants

DATA = "digits(size=8)"
RECIPE = "train(mlp(width=16), digits(size=8), epochs=3)"
QUICK = "metav(steps=5)"


def test_auto_takes_a_scheme_that_the_access_allows_and_says_why(whorl, case, tmp_path):
    made = whorl("extract", case.victim, "--scheme", "auto", "--data", DATA, "--budget", "20", "-o", tmp_path / "a.fp")
    assert made.exit_code == 0
    scheme = SCHEMES.make(read_fingerprint(tmp_path / "a.fp").scheme)
    assert scheme.needs_suspect is Access.LABELS
    assert not scheme.needs_pool
    assert f"{scheme.name} " in made.stderr
    assert "the most power" in made.stderr


def test_auto_goes_by_what_suspects_will_grant(whorl, case, tmp_path):
    arguments = ("extract", case.victim, "--scheme", "auto", "--data", DATA, "--budget", "20")
    whorl(*arguments, "--suspect-access", "probabilities", "-o", tmp_path / "b.fp")
    chosen = card(read_fingerprint(tmp_path / "b.fp").scheme.partition("(")[0])
    labels_only = [
        each
        for each in map(card, SCHEMES)
        if each.measured and each.suspect == grants(Access.LABELS) and not each.shadows
    ]
    sound = [each for each in labels_only if not each.measured["exceeds"]]
    assert chosen.measured["power"]["hits"] >= max(each.measured["power"]["hits"] for each in sound)
    assert not chosen.measured["exceeds"]
    refused = whorl(*arguments, "--suspect-access", "everything", "-o", tmp_path / "c.fp")
    assert refused.exit_code == 2
    assert "no such access: 'everything'" in refused.stderr


def test_shadow_models_are_trained_and_remembered(whorl, case, tmp_path):
    arguments = ("--shadow", RECIPE, "--shadow-removal", "fine_tune(all, epochs=1)", "--shadows", "2", "-j", "1")
    made = whorl(
        "extract", case.victim, "--scheme", QUICK, "--data", DATA, "--budget", "10", *arguments, "-o", tmp_path / "s.fp"
    )
    assert made.exit_code == 0, made.stderr
    pool = read_fingerprint(tmp_path / "s.fp").pool
    assert len(pool) >= 4
    whorl("zoo", "export", f"{RECIPE[:-1]}, seed=500000)", "-o", tmp_path / "shadow.safetensors")
    refused = whorl("verify", tmp_path / "s.fp", tmp_path / "shadow.safetensors")
    assert refused.exit_code == 2
    assert "one of the shadow models" in refused.stderr


def test_each_recipe_of_shadow_models_is_a_group(whorl, case, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(ownership, "extract", lambda *_, pool, **__: made.append(pool) or sys.exit(0))
    other = RECIPE.replace("mlp(width=16)", "lenet5")
    arguments = ("--shadow", RECIPE, "--shadow", other, "--shadow-removal", "quantise", "--shadows", "2", "-j", "1")
    whorl("extract", case.victim, "--scheme", QUICK, "--data", DATA, *arguments, "-o", tmp_path / "g.fp")
    assert {group: len(models) for group, models in made[0].strangers.items()} == {"mlp": 2, "lenet5": 2}


def test_a_scheme_that_learns_says_what_to_give(whorl, case, tmp_path):
    refused = whorl("extract", case.victim, "--scheme", "metav", "--data", DATA, "-o", tmp_path / "n.fp")
    assert refused.exit_code == 2
    assert "--shadow RECIPE" in refused.stderr


@pytest.mark.parametrize(
    ("scheme", "code", "says"), [("tafa", 0, "10 queries"), ("ipguard", 2, "starts from pictures: give --data")]
)
def test_data_are_asked_for_where_they_are_needed(whorl, case, tmp_path, scheme, code, says):
    made = whorl("extract", case.victim, "--scheme", scheme, "--budget", "10", "-o", tmp_path / "d.fp")
    assert made.exit_code == code
    assert says in made.stdout + made.stderr


def test_the_card_of_a_scheme(whorl):
    shown = " ".join(whorl("schemes", "ipguard").stdout.split())  # a narrow terminal folds the lines
    for text in ("classification boundary", "Cao, Jia, Gong", "blind to", "AUC by removal", "field/textures"):
        assert text in shown
    document = json.loads(whorl("schemes", "ipguard", "--json").stdout)
    assert (document["victim"], document["suspect"]) == ("gradients", "labels")
    assert document["measured"]["accused"]["count"] > 0
    refused = whorl("schemes", "ipgard")
    assert refused.exit_code == 2
    assert "Did you mean ipguard" in refused.stderr


def test_the_list_of_schemes_goes_by_access(whorl):
    every = json.loads(whorl("schemes", "--json").stdout)
    few = json.loads(whorl("schemes", "--victim-access", "labels", "--json").stdout)
    assert {each["name"] for each in every} == set(SCHEMES)
    assert {each["victim"] for each in few} == {"labels"}
    assert 0 < len(few) < len(every)
    text = whorl("schemes").stdout
    assert text.count("Blind to") == len(SCHEMES)


def test_the_grid_lists_what_works_and_why_the_rest_does_not(whorl):
    every = json.loads(whorl("schemes", "--grid", "--json").stdout)
    works = {each["name"] for each in every if each["refusal"] is None}
    assert "negative+labels+hamming" in works
    assert len(works) >= 96
    assert all(len(each["refusal"]) > 20 for each in every if each["refusal"] is not None)
    assert "negative+labels+hamming  works" in whorl("schemes", "--grid").stdout


def test_a_file_that_says_little_of_itself_is_taken_to_be_as_its_owners_data_are(whorl, tmp_path):
    rows, kinds = load_iris(return_X_y=True)
    names = ["setosa", "versicolor", "virginica"]
    lines = [",".join(map(str, [*row, names[kind]])) for row, kind in zip(rows, kinds, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,d,kind", *lines]))
    forest = RandomForestClassifier(5, random_state=0).fit(rows, [names[kind] for kind in kinds])
    dump(forest, tmp_path / "f.skops")
    table = f"rows('{tmp_path / 't.csv'}')"
    how = ("--scheme", "random", "--budget", "10", "-o", tmp_path / "f.fp")
    made = whorl("extract", tmp_path / "f.skops", "--data", table, "--set", f"units={table}", *how)
    assert made.exit_code == 0, made.stderr
    fingerprint = read_fingerprint(tmp_path / "f.fp")
    assert (fingerprint.space.shape, list(fingerprint.class_names)) == ((1, 1, 4), names)
    assert "units (of a table's columns)" not in made.stderr
    bare = whorl("extract", tmp_path / "f.skops", "--data", table, *how)
    assert "Check range, units (of a table's columns)" in bare.stderr
    refused = whorl("extract", tmp_path / "f.skops", "--data", "digits", "--scheme", "random", "-o", tmp_path / "g.fp")
    assert refused.exit_code == 2
    assert "knows the classes 'setosa'" in refused.stderr


def test_what_is_no_fingerprint_is_not_written_over(whorl, case, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("a,b\n1,2\n")
    how = ("--data", DATA, "--scheme", "random", "--budget", "10", "-o")
    refused = whorl("extract", case.victim, *how, path)
    assert (refused.exit_code, path.read_text()) == (2, "a,b\n1,2\n")
    assert "mine.csv is there and no fingerprint" in refused.stderr
    for _ in range(2):  # one of its own may be made anew
        assert whorl("extract", case.victim, *how, tmp_path / "a.fp").exit_code == 0
