"""The zoo builds models that predict numbers or make pictures, with cards that say how good they are."""

from __future__ import annotations

import pytest
import torch

from whorl.data import SOURCES
from whorl.errors import UsageError
from whorl.nets.files import read_model
from whorl.oracles.opening import open_oracle
from whorl.types import Access
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe

REGRESSOR = parse_recipe("train(mlp_regressor(width=32), diabetes, epochs=10, batch=25, learning_rate=0.02, seed=1)")
TUNED = REGRESSOR.then("fine_tune(all, epochs=2)")
DECODER = parse_recipe("train(vae, digits(size=8), epochs=25, batch=25, learning_rate=0.02, seed=1)")
COARSE = DECODER.then("quantise(int4)")
STUDENT = DECODER.then("extract('vae(width=96)', outputs, epochs=3, seed=7)")
SPOILT = DECODER.then("retrain(last, epochs=1)")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    made = Zoo(tmp_path_factory.mktemp("cache"))
    made.build([TUNED, COARSE, STUDENT, SPOILT], workers=1)
    return made


def explained(outputs, targets):
    """R^2 of all outputs, each around its own mean."""
    error = (outputs - targets).square().sum()
    return max(0.0, float(1 - error / (targets - targets.mean(0)).square().sum()))


def test_cards_of_regressors(zoo):
    test = SOURCES.make("diabetes").load("test")
    ours, theirs = (zoo.oracle(recipe).scores(test.inputs()) for recipe in (REGRESSOR, TUNED))
    card, root = zoo.card(TUNED), zoo.card(REGRESSOR)
    assert root.accuracy == root.victim_accuracy == pytest.approx(explained(ours, test.labels), abs=1e-5)
    assert root.accuracy > 0.3
    assert root.agreement == 1
    assert card.accuracy == pytest.approx(explained(theirs, test.labels), abs=1e-5)
    assert card.agreement == pytest.approx(explained(theirs, ours), abs=1e-5)
    assert card.victim_accuracy == root.accuracy


def test_cards_of_decoders_ask_for_the_codes_of_the_victim_s_encoder(zoo):
    test = SOURCES.make("digits(size=8)").load("test")
    encoder, _ = read_model(zoo.path(DECODER))
    with torch.no_grad():
        codes = encoder.encode(test.inputs())
    ours = zoo.oracle(DECODER).scores(codes)
    assert zoo.card(DECODER).accuracy == pytest.approx(explained(ours, test.inputs().flatten(1)), abs=1e-5)
    assert zoo.card(DECODER).accuracy > 0.5
    for recipe in (COARSE, STUDENT, SPOILT):
        theirs, card = zoo.oracle(recipe).scores(codes), zoo.card(recipe)
        assert card.agreement == pytest.approx(explained(theirs, ours), abs=1e-5)
        assert card.accuracy == pytest.approx(explained(theirs, test.inputs().flatten(1)), abs=1e-5)
        assert card.damaged == (card.accuracy < card.victim_accuracy - 0.05)
    assert zoo.card(SPOILT).damaged


@pytest.mark.parametrize(("recipe", "task", "shape", "outputs"), [
    (TUNED, "regression", (1, 1, 10), 1),
    (STUDENT, "generation", (1, 1, 8), 64),
])  # fmt: skip
def test_models_open_from_their_files_with_their_task(zoo, recipe, task, shape, outputs):
    opened = open_oracle(zoo.path(recipe))
    inputs = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    for oracle in (zoo.oracle(recipe), opened, open_oracle(read_model(zoo.path(recipe))[0])):
        assert (oracle.task, oracle.input_shape, oracle.classes) == (task, shape, outputs)
        assert torch.equal(oracle.scores(inputs), opened.scores(inputs))
    lowered = open_oracle(zoo.path(recipe), access="gradients")
    assert (lowered.task, lowered.access) == (task, Access.GRADIENTS)
    for access in ("labels", "probabilities"):
        with pytest.raises(UsageError, match="too little"):
            open_oracle(zoo.path(recipe), access=access)
    with pytest.raises(UsageError, match="no probabilities"):
        open_oracle(zoo.path(recipe), output="probabilities")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train(mlp, diabetes)", "mlp.* does classification; the labels of diabetes.* are numbers"),
        ("train(random_forest, diabetes)", "does classification"),
        ("train(mlp_regressor, digits)", "the labels of digits.* are classes"),
        ("train(resnet8, noise)", "are nothing"),
        ("train(vae, digits) -> extract(mlp_regressor, outputs, seed=1)", "cannot learn from vae"),
        ("train(mlp, digits) -> distil(vae, seed=1)", "vae.* does generation"),
    ],
)
def test_recipes_of_two_tasks_are_refused_when_they_are_read(text, says):
    with pytest.raises(UsageError, match=says):
        parse_recipe(text)
