"""``whorl zoo``, and the verbs that list and check what is installed."""

from __future__ import annotations

import json

import pytest

from whorl.nets.files import read_model
from whorl.removals import REMOVALS
from whorl.schemes import SCHEMES

RECIPE = "train(mlp(width=8), digits(size=8), epochs=1)"


def test_a_recipe_is_built_listed_carded_and_exported(whorl, tmp_path):
    built = whorl("zoo", "build", RECIPE, f"{RECIPE} -> quantise(int8)", "-j", "1", "--json")
    assert built.stderr == ""
    cards = json.loads(built.stdout)
    assert [len(card["parents"]) for card in cards] == [0, 1]
    assert cards[1]["parents"] == [cards[0]["digest"]]
    again = whorl("zoo", "build", RECIPE, "-j", "1")
    assert again.stdout == f"{cards[0]['digest']}  accuracy {cards[0]['accuracy']:.3f}  agreement 1.000\n"
    assert json.loads(whorl("zoo", "card", RECIPE).stdout) == cards[0]
    listed = json.loads(whorl("zoo", "list", "--json").stdout)
    assert {card["digest"] for card in listed} == {card["digest"] for card in cards}
    assert cards[1]["digest"] in whorl("zoo", "list").stdout
    exported = tmp_path / "new" / "net.safetensors"
    assert whorl("zoo", "export", RECIPE, "-o", exported).stdout == f"{exported}\n"
    assert read_model(exported)[1].classes == 10


def test_a_language_model_is_built_listed_carded_and_exported(whorl, tmp_path):
    """A folder in the layout of the hub, which `whorl compare` reads; a further step is one more model."""
    pytest.importorskip("transformers")
    base, cache = "pretrain(gpt2(width=16, layers=1), steps=3)", ("--cache", tmp_path / "cache")
    told = whorl(
        "zoo", "build", base, f"{base} -> quantise(bits=8)", "train(mlp, digits(size=8), epochs=1)", "-j", 1, *cache
    )
    assert told.exit_code == 0, told.output
    assert len(told.stdout.splitlines()) == 3
    listed = json.loads(whorl("zoo", "list", "--json", *cache).stdout)
    assert [each["recipe"].partition("(")[0] for each in listed] == ["pretrain", "pretrain", "train"]
    assert whorl("zoo", "list", *cache).stdout.count("pretrain(") == 2
    assert listed[0].pop("older") == ""
    assert json.loads(whorl("zoo", "card", base, *cache).stdout) == listed[0]
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for recipe, folder in ((base, ours), (f"{base} -> quantise(bits=8)", theirs)):
        assert whorl("zoo", "export", recipe, "-o", folder, *cache).exit_code == 0
    assert json.loads(whorl("compare", ours, theirs, "--json", "-q").stdout)["decision"] == "related"
    assert whorl("zoo", "export", base, "-o", ours, *cache).exit_code == 2  # a folder is not written over
    assert whorl("zoo", "card", "pretrain(gpt2)", *cache).exit_code == 2
    kept = next((tmp_path / "cache" / "language").glob("*/recipe.json"))
    stamp = kept.stat().st_mtime_ns
    assert whorl("zoo", "build", base, "-j", 1, "--fresh", *cache).exit_code == 0
    assert {each.stat().st_mtime_ns for each in (tmp_path / "cache" / "language").glob("*/recipe.json")} != {stamp}
    kept.write_text("{}")
    told = whorl("zoo", "list", *cache)
    assert (told.exit_code, len(told.stderr.splitlines())) == (7, 1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["card", RECIPE], "Type: whorl zoo build"),
        (["export", RECIPE, "-o", "x.safetensors"], "Type: whorl zoo build"),
        (["build", "train(mpl, digits)"], "Did you mean mlp"),
        (["build", RECIPE, "--device", "abacus"], "no such device here: 'abacus'"),
    ],
)
def test_a_mistake_ends_in_one_line(whorl, arguments, told):
    result = whorl("zoo", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert told in line


def test_an_empty_zoo_is_an_empty_list(whorl):
    assert json.loads(whorl("zoo", "list", "--json").stdout) == []


def test_schemes_are_listed_by_what_they_need(whorl):
    every = json.loads(whorl("schemes", "--json").stdout)
    assert [scheme["name"] for scheme in every] == list(SCHEMES)
    labels = json.loads(whorl("schemes", "--victim-access", "labels", "--json").stdout)
    names = {scheme["name"] for scheme in labels}
    assert names >= {"akh", "random", "fbi"}
    assert not names & {"ipguard", "sac-w", "tafa"}
    assert {scheme["victim"] for scheme in labels} == {"labels"}
    assert "ipguard" in whorl("schemes").stdout
    wrong = whorl("schemes", "--suspect-access", "label")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "no such access: 'label'. Levels: labels" in wrong.stderr


def test_removals_are_listed_with_their_settings(whorl):
    every = json.loads(whorl("removals", "--json").stdout)
    assert [removal["name"] for removal in every] == list(REMOVALS)
    assert all("learning_rate" in row["parameters"] for row in every if row["family"] == "fine-tune")
    assert "prune_filters" in whorl("removals").stdout


def test_the_doctor_finds_a_sound_installation(whorl):
    result = whorl("doctor", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert document["self_test"] == "passed"
    assert document["core"]["torch"]
    assert "cpu" in document["devices"]
