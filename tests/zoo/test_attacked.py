"""What the zoo keeps of models that do another task, treat their answers, or were bought by asking."""

from __future__ import annotations

import pytest
import torch

from whorl.data import SOURCES
from whorl.oracles.base import Oracle
from whorl.oracles.wrappers import Wrapper
from whorl.types import Access
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe

VICTIM = parse_recipe("train(mlp(width=16), digits(size=8), epochs=6, seed=0)")
FEWER = "only(digits(size=8), classes=[0, 1, 2])"
ELSEWHERE = VICTIM.then(f"transfer({FEWER}, epochs=10, learning_rate=0.1, part=victim, seed=3)")
PRUNED = ELSEWHERE.then("prune_weights(1/10, epochs=1, seed=4)")
CORRUPT = VICTIM.then("transfer(corrupt(digits(size=8), severity=1), epochs=3, seed=5)")
THIEF = VICTIM.then("extract(mlp(width=16), labels, epochs=3, seed=6)")
SERVED = THIEF.then("answer_labels")
STOLEN = SERVED.then("extract(mlp(width=8), labels, epochs=10, learning_rate=0.3, seed=7)")
ALL = (VICTIM, ELSEWHERE, PRUNED, CORRUPT, THIEF, SERVED, STOLEN)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    made = Zoo(tmp_path_factory.mktemp("attacked"))
    made.build(ALL, workers=1)
    return made


def test_a_copy_belongs_to_the_model_whose_task_it_does():
    assert ELSEWHERE.victim == VICTIM
    assert PRUNED.victim == ELSEWHERE
    assert STOLEN.victim == THIEF.victim == VICTIM
    assert (VICTIM.data, PRUNED.data) == (
        "digits(size=8, seed=0)",
        str(SOURCES.bind(FEWER)).replace("data=digits(size=8)", "data=digits(size=8, seed=0)"),
    )


def test_a_model_of_other_classes_has_no_agreement(zoo):
    card = zoo.card(ELSEWHERE)
    assert card.agreement is None
    assert card.victim_accuracy is None
    assert not card.damaged
    assert card.accuracy > 0.8
    assert zoo.oracle(ELSEWHERE).classes == 3
    copy = zoo.card(PRUNED)
    assert copy.victim_accuracy == card.accuracy
    assert copy.agreement is not None


def test_the_same_classes_seen_otherwise_are_held_against_the_victim(zoo):
    card, test = zoo.card(CORRUPT), CORRUPT.source.load("test")
    ours, theirs = (zoo.oracle(recipe).labels(test.inputs()) for recipe in (VICTIM, CORRUPT))
    assert card.agreement == pytest.approx(float((ours == theirs).float().mean()))
    assert card.victim_accuracy == pytest.approx(float((ours == test.labels).float().mean()))


def test_queries_are_counted(zoo):
    asked = len(SOURCES.make("digits(size=8)").load("attacker"))
    assert [zoo.card(recipe).queries for recipe in (VICTIM, ELSEWHERE, THIEF, STOLEN)] == [0, 0, asked, asked]


def test_treated_answers_need_no_file(zoo):
    card = zoo.card(SERVED)
    assert card.served
    assert not zoo.path(SERVED).exists()
    oracle = zoo.oracle(SERVED)
    assert isinstance(oracle, Wrapper)
    assert oracle.access is Access.LABELS
    inputs = SOURCES.make("digits(size=8)").load("test").inputs()
    assert torch.equal(oracle.labels(inputs), zoo.oracle(THIEF).labels(inputs))
    assert card.accuracy == zoo.card(THIEF).accuracy


def test_what_is_served_can_be_stolen_in_turn(zoo):
    assert isinstance(zoo.oracle(STOLEN), Oracle)
    card = zoo.card(STOLEN)
    assert card.victim_accuracy == zoo.card(VICTIM).accuracy
    assert card.agreement > 0.3


def test_a_card_without_agreement_is_listed(zoo):
    from typer.testing import CliRunner

    from whorl.cli.app import app

    shown = CliRunner().invoke(app, ["zoo", "list", "--cache", str(zoo.cache)])
    assert shown.exit_code == 0, shown.output
    assert " - " in shown.output
