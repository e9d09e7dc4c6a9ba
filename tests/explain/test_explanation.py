"""An injected change of a real model is found and named, on tables and on pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from whorl.cli.app import app
from whorl.data import SOURCES
from whorl.errors import UsageError
from whorl.explain import explain
from whorl.explain.explanation import readable
from whorl.nets.files import write_model
from whorl.nets.training import Schedule, build, fit
from whorl.oracles.torch import TorchOracle


def trained(data, seed=0, part="victim"):
    generator = torch.Generator().manual_seed(seed)
    known = SOURCES.make(data).load(part)
    net = build("mlp(width=32)", known.input_shape, len(known.classes), generator)
    net.standardise(known.inputs())
    fit(net, known, Schedule(epochs=40, learning_rate=0.05, batch=20, shift=0), generator=generator)
    return net


class Changed(nn.Module):
    """The net, but where one input lies in a range it answers with one class."""

    def __init__(self, net, place, low, label):
        super().__init__()
        self.net, self.place, self.low, self.label = net, place, low, label

    def forward(self, inputs):
        logits = self.net(inputs)
        y, x = self.place
        inside = inputs[:, :, y, x].mean(tuple(range(1, inputs[:, :, y, x].ndim))) > self.low
        forced = nn.functional.one_hot(torch.tensor(self.label), logits.shape[1]).float() * 100
        return torch.where(inside[:, None], forced, logits)


def oracle(module, data, name="a model"):
    return TorchOracle(module, input_shape=data.input_shape, classes=len(data.classes), name=name)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("source", "feature", "label"), [("breast_cancer", "mean texture", 1), ("wine", "ash", 2)])
def test_an_injected_change_is_named_on_tables(source, feature, label, seed):
    data = SOURCES.make(source).load("victim+attacker+queries+test")
    column = data.features.index(feature)
    low = float(data.inputs()[:, 0, 0, column].quantile(0.7))
    net = trained(source, seed)
    changed = Changed(net, (0, slice(column, column + 1)), low, label)
    found = explain(oracle(net, data), oracle(changed, data), data, seed=seed)
    assert found.delta.disagreement > 0.03
    best = found.delta.found[0]
    bounds = {found.names[bound.feature]: bound for bound in best.rule.bounds}
    assert feature in bounds
    assert bounds[feature].low == pytest.approx(low, abs=0.08)
    assert found.delta.recall > 0.6
    assert any(
        feature in change.after.describe(found.names)
        for change in found.comparison.changes
        if change.after is not None and change.kind != "unchanged" and change.label == label
    )
    assert found.comparison.covered > 0.5


@pytest.mark.parametrize("seed", range(2))
def test_an_injected_change_is_named_on_pictures(seed):
    """A bright corner, in which digits have no ink of their own, gives class 3."""
    data = SOURCES.make("digits(size=8)").load("queries+test")
    images = data.inputs().clone()
    marked = torch.rand(len(images), generator=torch.Generator().manual_seed(seed)) < 0.3
    images[marked, :, :2, :2] = 1.0
    data = type(data)(images, data.labels, data.classes)
    net = trained("digits(size=8)", seed)
    found = explain(oracle(net, data), oracle(Changed(net, (slice(0, 2), slice(0, 2)), 0.9, 3), data), data)
    best = found.delta.found[0].rule
    named = [found.names[bound.feature] for bound in best.bounds]
    places = [tuple(map(int, name.split("(")[1].rstrip(")").split(","))) for name in named]
    assert any(max(place) <= 2 for place in places)
    assert found.delta.recall > 0.8


def test_equal_models_differ_nowhere():
    data = SOURCES.make("wine").load("queries")
    net = trained("wine")
    found = explain(oracle(net, data), oracle(net, data), data)
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


def test_models_of_other_data_are_refused():
    data = SOURCES.make("wine").load("queries")
    other = SOURCES.make("breast_cancer").load("queries")
    with pytest.raises(UsageError, match="takes"):
        explain(oracle(trained("wine"), data), oracle(trained("breast_cancer"), other), data)


def test_the_verb(tmp_path):
    for seed in (0, 1):
        net = trained("breast_cancer", seed, part=("victim", "attacker")[seed])
        write_model(net, tmp_path / f"{seed}.safetensors", architecture="mlp(width=32)", input_shape=net.input_shape)
    arguments = ["explain", str(tmp_path / "0.safetensors"), str(tmp_path / "1.safetensors"), "--data", "breast_cancer"]
    arguments += ["--part", "queries+test+calibration"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0
    assert "rows get different labels" in shown.stdout
    assert "What changed" in shown.stdout
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json", "--quiet"]).stdout)
    assert 0 < document["disagreement"] < 0.3
    assert document["rows"] == len(SOURCES.make("breast_cancer").load("queries+test+calibration"))
    assert min(document["fidelity"]) > 0.8
    assert {change["class"] for change in document["changes"]} <= {"malignant", "benign"}
