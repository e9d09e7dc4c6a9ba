"""From two models and data to rules; the verb that prints them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from whorl.cli.app import app
from whorl.data import SOURCES
from whorl.errors import UsageError
from whorl.explanations import explain
from whorl.explanations.explanation import readable
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Source, seed and part to a model."""
    built = Zoo(tmp_path_factory.mktemp("explained"))

    def recipe(source, seed=0, part="victim"):
        settings = "epochs=20, batch=20, learning_rate=0.05, shift=0"
        made = parse_recipe(f"train(mlp(width=32), {source}, {settings}, part={part}, seed={seed})")
        built.build([made], workers=1)
        return built, made

    return recipe


@pytest.fixture(scope="module")
def model(zoo):
    def opened(source):
        built, recipe = zoo(source)
        return built.oracle(recipe)

    return opened


def test_equal_models_differ_nowhere(model):
    found = explain(model("wine"), model("wine"), SOURCES.make("wine").load("queries"))
    assert found.delta.disagreement == 0
    assert found.comparison.score == 0


def test_features_of_pictures_are_means_over_superpixels_that_cover_the_picture():
    data = SOURCES.make("digits(size=8)").load("test")
    values, names = readable(data, 9)
    assert values.shape == (len(data), len(names))
    assert 4 <= len(names) <= 9
    assert len(set(names)) == len(names)
    flat = type(data)(torch.full_like(data.inputs(), 0.25), data.labels, data.classes)
    assert readable(flat, 9)[0] == pytest.approx(np.full((len(data), len(readable(flat, 9)[1])), 0.25))


def test_models_of_other_data_are_refused(model):
    with pytest.raises(UsageError, match="takes"):
        explain(model("wine"), model("breast_cancer"), SOURCES.make("wine").load("queries"))


def test_the_verb(zoo):
    paths = []
    for seed, part in enumerate(("victim", "attacker")):
        built, recipe = zoo("breast_cancer", seed, part)
        paths.append(str(built.path(recipe)))
    arguments = ["explain", *paths, "--data", "breast_cancer", "--part", "queries+test+calibration"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0
    assert "rows get different labels" in shown.stdout
    assert "What changed" in shown.stdout
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json", "--quiet"]).stdout)
    assert 0 < document["disagreement"] < 0.3
    assert document["rows"] == len(SOURCES.make("breast_cancer").load("queries+test+calibration"))
    assert min(document["fidelity"]) > 0.8
    assert {change["class"] for change in document["changes"]} <= {"malignant", "benign"}
