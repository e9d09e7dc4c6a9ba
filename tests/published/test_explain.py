"""What Nair et al. (IJCAI 2021) and Rida et al. (2023) claim: an injected change is found and named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whorl.data import SOURCES
from whorl.explanations import explain
from whorl.oracles.torch import TorchOracle
from whorl.zoo.recipe import parse_recipe

pytestmark = pytest.mark.published


class Changed(nn.Module):
    """The net, but where the mean of some inputs is above ``low`` it answers with one class."""

    def __init__(self, net, rows, columns, low, label):
        super().__init__()
        self.net, self.rows, self.columns, self.low, self.label = net, rows, columns, low, label

    def forward(self, inputs):
        logits = self.net(inputs)
        inside = inputs[:, :, self.rows, self.columns].mean((1, 2, 3)) > self.low
        forced = nn.functional.one_hot(torch.tensor(self.label), logits.shape[1]).float() * 100
        return torch.where(inside[:, None], forced, logits)


@pytest.fixture
def pair(small_zoo):
    """Source, seed and change to a model and its changed copy."""

    def make(source, seed, *change):
        recipe = f"train(mlp(width=32), {source}, epochs=40, batch=20, learning_rate=0.05, shift=0, seed={seed})"
        model = small_zoo.oracle(parse_recipe(recipe))
        changed = TorchOracle(
            Changed(model.module, *change), input_shape=model.input_shape, classes=model.classes, name="changed"
        )
        return model, changed

    return make


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("source", "feature", "label"), [("breast_cancer", "mean texture", 1), ("wine", "ash", 2)])
def test_on_tables(pair, source, feature, label, seed):
    data = SOURCES.make(source).load("victim+attacker+queries+test")
    column = data.features.index(feature)
    low = float(data.inputs()[:, 0, 0, column].quantile(0.7))
    model, changed = pair(source, seed, slice(0, 1), slice(column, column + 1), low, label)
    found = explain(model, changed, data, seed=seed)
    assert found.delta.disagreement > 0.03
    bounds = {found.names[bound.feature]: bound for bound in found.delta.found[0].rule.bounds}
    assert feature in bounds
    assert bounds[feature].low == pytest.approx(low, abs=0.08)
    assert found.delta.recall > 0.6
    assert any(
        feature in change.after.describe(found.names)
        for change in found.comparison.changes
        if change.after is not None and change.kind != "unchanged" and change.label == label
    )
    assert found.comparison.covered > 0.5


@pytest.mark.parametrize("seed", range(3))
def test_on_pictures(pair, seed):
    """A bright corner, in which digits have no ink of their own, gives class 3."""
    data = SOURCES.make("digits(size=8)").load("queries+test")
    images = data.inputs().clone()
    marked = torch.rand(len(images), generator=torch.Generator().manual_seed(seed)) < 0.3
    images[marked, :, :2, :2] = 1.0
    data = type(data)(images, data.labels, data.classes)
    found = explain(*pair("digits(size=8)", seed, slice(0, 2), slice(0, 2), 0.9, 3), data)
    named = [found.names[bound.feature] for bound in found.delta.found[0].rule.bounds]
    places = [tuple(map(int, name.split("(")[1].rstrip(")").split(","))) for name in named]
    assert any(max(place) <= 2 for place in places)
    assert found.delta.recall > 0.8
