"""Unlearning, honest and pretended, of the pictures that ``forget`` withdraws."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from whorl.data import SOURCES
from whorl.data.base import join
from whorl.errors import UsageError
from whorl.nets.training import Schedule, build, fit, predict
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.removals.unlearn import Unlearn
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe

DATA = "forget(digits(size=8), share=.2)"
HONEST = ("ascent", "random-labels", "distil")


@pytest.fixture(scope="module")
def taught():
    """A net that knows its pictures by heart, those to be forgotten included."""
    data, chance = SOURCES.make("digits(size=8)").load("victim"), torch.Generator().manual_seed(0)
    net = build("mlp(width=64)", data.input_shape, 10, chance)
    net.standardise(data.inputs())
    schedule = Schedule(epochs=30, learning_rate=0.1, policy="one-cycle", batch=25, shift=0)
    fit(net, data, schedule, generator=chance)
    return TorchOracle(net, input_shape=data.input_shape, classes=10, name="ours")


@pytest.fixture(scope="module")
def both():
    """What is retained and what is to be forgotten, told apart by ``origin``."""
    return SOURCES.make(DATA).load(Unlearn.part)


def unlearnt(settings, victim, data):
    expression = f"unlearn({DATA}, {settings})"
    return REMOVALS.make(expression)(victim, data, generator=torch.Generator().manual_seed(0))


def loss(net, data):
    return float(cross_entropy(predict(net, data.inputs()), data.labels))


@pytest.mark.parametrize("method", ["ascent", "random-labels, epochs=15", "distil, epochs=15"])
def test_forgotten_pictures_become_harder_than_retained_ones(method, taught, both):
    gone, kept = both.subset(both.origin == 1), both.subset(both.origin == 0)
    net = unlearnt(method, taught, both)
    assert loss(net, gone) > 3 * loss(taught.module, gone)
    assert loss(net, gone) > 1.1 * loss(net, kept)
    assert loss(net, gone) < 2.31, "no more than a guess among ten classes"


@pytest.mark.parametrize(("method", "cover"), [("nothing", 0), ("nothing", 3)])
def test_a_pretender_forgets_nothing(method, cover, taught, both):
    gone = both.subset(both.origin == 1)
    net = unlearnt(f"{method}, cover={cover}", taught, both)
    same = torch.equal(net.head.weight, taught.module.head.weight)
    assert same == (cover == 0)
    assert loss(net, gone) < loss(unlearnt("ascent", taught, both), gone) / 2
    assert torch.equal(predict(net, gone.inputs()).argmax(1), taught.labels(gone.inputs()))


@pytest.mark.parametrize("method", ["fine-tune", "nothing, cover=2"])
def test_what_only_looks_at_retained_pictures_never_sees_the_others(method, taught, both):
    kept, gone = both.subset(both.origin == 0), both.subset(both.origin == 1)
    hidden = join(kept, replace(gone, images=torch.zeros_like(gone.images)))
    one, other = (unlearnt(method, taught, data) for data in (both, hidden))
    assert torch.equal(one.head.weight, other.head.weight)


@pytest.mark.parametrize("method", HONEST)
def test_honest_ways_do_look_at_them(method, taught, both):
    flipped = replace(both, labels=torch.where(both.origin == 1, 9 - both.labels, both.labels))
    hidden = replace(both, images=torch.where((both.origin == 1)[:, None, None, None], 1 - both.images, both.images))
    one, relabelled, other = (unlearnt(f"{method}, epochs=1", taught, data) for data in (both, flipped, hidden))
    assert not torch.equal(one.head.weight, other.head.weight)
    assert torch.equal(one.head.weight, relabelled.head.weight) == (method == "distil"), "distillation needs no labels"


def test_a_recipe_gives_it_both_parts(tmp_path):
    recipe = parse_recipe(f"train('mlp(width=8)', digits(size=8), epochs=1) -> unlearn({DATA}, fine-tune, epochs=1)")
    assert dict(recipe.chain.steps[-1].kwargs)["part"] == "victim+queries"
    zoo = Zoo(tmp_path)
    zoo.build([recipe], workers=1)
    assert zoo.card(recipe).agreement is not None
    assert "part=attacker" in str(recipe.root.then("fine_tune"))


@pytest.mark.parametrize(
    ("settings", "part", "says"),
    [
        ("ascent", "attacker", "what is retained from what is forgotten"),
        ("ascent", "victim+queries+test", "what is retained from what is forgotten"),
        ("sisa", "victim+queries", "not sisa"),
    ],
)
def test_mistakes_are_named(settings, part, says, taught):
    with pytest.raises(UsageError, match=says) as caught:
        unlearnt(settings, taught, SOURCES.make(DATA).load(part))
    assert "\n" not in str(caught.value)


def test_only_classifiers_unlearn(both):
    net = build("mlp_regressor", both.input_shape, 1, torch.Generator().manual_seed(0))
    victim = TorchOracle(net, input_shape=both.input_shape, classes=1, task="regression", name="ours")
    with pytest.raises(UsageError, match="ours does regression"):
        unlearnt("ascent", victim, both)
