"""Served copies: whose they are, what access remains, and which of them keep the predicted class."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import AccessRefused, UsageError
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.testing import tiny_data, tiny_victim
from whorl.types import Access
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe

INPUTS = tiny_data("test").inputs()
KEEP = [
    "answer_labels",
    "answer_top(k=1)",
    "answer_top(k=3)",
    "answer_softened",
    "answer_poisoned(epsilon=0.1)",
    "answer_poisoned(epsilon=1.0)",
    "answer_reverse_sigmoid(beta=0.9, gamma=1)",
    "answer_randomly(probability=0)",
    "detect_queries(delta=0)",
    "detect_queries(delta=0, lie=permuted)",
]
CHANGE = {
    "answer_shuffled(k=3)": (0.2, 0.5),
    "answer_randomly(probability=0.5)": (0.4, 0.7),
    "answer_poisoned(epsilon=1.5, keep_label=false)": (0, 0.5),
    "answer_rounded(decimals=0)": (0.5, 1),
}
ALL = [*KEEP, *CHANGE]


def serve(expression, access=Access.WEIGHTS, seed=0):
    victim = tiny_victim(access)
    return REMOVALS.make(expression)(victim, tiny_data("attacker"), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("expression", KEEP)
def test_the_class_stays(expression):
    assert torch.equal(serve(expression).labels(INPUTS), tiny_victim().labels(INPUTS))


@pytest.mark.parametrize("expression", CHANGE)
def test_the_class_changes_about_as_often_as_said(expression):
    least, most = CHANGE[expression]
    agreement = float((serve(expression).labels(INPUTS) == tiny_victim().labels(INPUTS)).float().mean())
    assert least <= agreement <= most
    assert agreement < 1


@pytest.mark.parametrize("expression", [each for each in ALL if each != "answer_labels"])
def test_probabilities_are_left_and_changed(expression):
    served = serve(expression)
    assert served.access is Access.PROBABILITIES
    assert served.digest == tiny_victim().digest
    same = torch.allclose(served.probabilities(INPUTS), tiny_victim().probabilities(INPUTS), atol=1e-4)
    assert same == ("delta=0" in expression or "probability=0)" in expression)


def test_labels_are_all_that_is_left_of_labels():
    for expression in ("answer_labels", "answer_randomly", "detect_queries(lie=permuted)"):
        served = serve(expression, Access.LABELS)
        assert served.access is Access.LABELS
        assert served.digest == tiny_victim().digest
    assert serve("answer_labels").access is Access.LABELS


@pytest.mark.parametrize("expression", ["answer_shuffled", "answer_randomly(0.5)", "answer_poisoned"])
def test_another_seed_is_another_defence(expression):
    one, other = (serve(expression, seed=seed).probabilities(INPUTS) for seed in (0, 1))
    assert not torch.equal(one, other)


def test_the_runner_up_needs_probabilities():
    with pytest.raises(AccessRefused, match="runner-up needs PROBABILITIES"):
        serve("detect_queries", Access.LABELS)


@pytest.mark.parametrize("expression", ALL)
def test_what_has_no_classes_is_refused(expression):
    net = tiny_victim().module
    victim = TorchOracle(net, input_shape=(1, 8, 8), classes=10, task="regression", name="numbers")
    with pytest.raises(UsageError, match="numbers does regression"):
        REMOVALS.make(expression)(victim, tiny_data("attacker"), generator=torch.Generator())


def test_mistakes_cost_no_query():
    victim = tiny_victim()
    for expression in (
        "answer_rounded(-1)",
        "answer_top(0)",
        "answer_softened(0)",
        "answer_poisoned(0)",
        "answer_poisoned(surrogate=nosuch)",
        "answer_reverse_sigmoid(2)",
        "answer_randomly(2)",
        "answer_shuffled(11)",
        "detect_queries(2)",
        "detect_queries(lie=silence)",
    ):
        with pytest.raises(UsageError):
            REMOVALS.make(expression)(victim, tiny_data("attacker"), generator=torch.Generator())
    assert victim.queries_spent == 0


def test_a_zoo_serves_them_and_lets_others_extract_from_them(tmp_path):
    zoo = Zoo(tmp_path)
    served = parse_recipe("train('mlp(width=8)', digits(size=8), epochs=2) -> answer_poisoned(epsilon=0.9)")
    stolen = served.then("extract('mlp(width=8)', probabilities, epochs=1, seed=3)")
    zoo.build([stolen], workers=1)
    assert zoo.card(served).served
    assert zoo.card(served).agreement == 1
    assert zoo.card(stolen).queries == len(tiny_data("attacker"))
    one, again = (zoo.oracle(served).probabilities(INPUTS) for _ in range(2))
    assert torch.equal(one, again)
