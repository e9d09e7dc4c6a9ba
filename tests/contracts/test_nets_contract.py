"""Every architecture of the catalog keeps the contract, natural mistakes are told, and a false net is found."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whorl.errors import UsageError
from whorl.nets import NETS
from whorl.nets.base import Classifier, HiddenUnits
from whorl.oracles.opening import open_oracle
from whorl.testing import check_net
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe

SMALL = {
    "autoencoded": "autoencoded(mlp)",
    "ensemble": "ensemble(mlp)",
    "misinforming": "misinforming(mlp)",
    "resnet": "resnet(depth=8, width=4)",
    "resnet8": "resnet8(width=4)",
    "resnet14": "resnet14(width=4)",
    "resnet20": "resnet20(width=4)",
    "vgg": "vgg(width=4)",
    "wrn": "wrn(depth=10, widen=1)",
}
# vgg16 is vgg at its paper's width; timm has tests of its own (tests/nets/test_timm.py), as its import takes seconds.
ELSEWHERE = {"vgg16", "wrn22-4", "timm"}


@pytest.mark.parametrize("name", sorted(set(NETS) - ELSEWHERE))
def test_net_keeps_contract(name):
    sizes = {"vae": {"input_shape": (1, 1, 8), "classes": 64}, "lenet5": {"input_shape": (3, 32, 32)}}
    check_net(SMALL.get(name, name), **sizes.get(name, {}))


def test_settings_are_of_known_nets():
    assert set(SMALL) | ELSEWHERE <= set(NETS)


class Own(Classifier):
    def __init__(self, input_shape, classes, *, width: int = 8):
        super().__init__(input_shape, classes)
        self.first = nn.Linear(torch.Size(input_shape).numel(), width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def embed(self, normalised):
        return self.norm(self.first(normalised.flatten(1))).relu()

    def hidden_units(self):
        return []


class Plain(nn.Module):
    def __init__(self, input_shape, classes):
        super().__init__()
        self.head = nn.Linear(torch.Size(input_shape).numel(), classes)

    def forward(self, inputs):
        return self.head(inputs.flatten(1))


class Shapeless(Own):
    def __init__(self, *, width: int = 8):
        super().__init__((1, 8, 8), 10, width=width)


class Blind(Classifier):
    def hidden_units(self):
        return []


class Headless(Classifier):
    def __init__(self, input_shape, classes):
        super().__init__(input_shape, classes)
        self.last = nn.Linear(torch.Size(input_shape).numel(), classes)

    def embed(self, normalised):
        return normalised.flatten(1)

    def hidden_units(self):
        return []


class Silent(Own):
    def __init__(self, input_shape, classes):
        nn.Module.__init__(self)
        self.first, self.norm, self.head = nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, classes)


class Chancy(Own):
    def embed(self, normalised):
        return super().embed(normalised) * (1 + 0.1 * torch.rand(1))


class Batchy(Own):
    def embed(self, normalised):
        return super().embed(normalised - normalised.mean(0))


class Boastful(Own):
    def hidden_units(self):
        return [HiddenUnits(self.first, (), self.head)]  # the norm between them is left out


class Misplaced(Own):
    def __init__(self, input_shape, classes, *, width: int = 8):
        super().__init__(input_shape, classes, width=width)
        self.input_shape = tuple(reversed(input_shape))


@pytest.fixture(autouse=True)
def _plugged_in(monkeypatch):
    for kind in (Own, Plain, Shapeless, Blind, Headless, Silent, Chancy, Batchy, Boastful, Misplaced):
        monkeypatch.setitem(NETS._targets, kind.__name__.lower(), f"{__name__}:{kind.__name__}")


def test_a_net_with_a_layer_norm_simply_works(tmp_path):
    check_net("own")
    recipe = parse_recipe("train(own(width=32), digits(size=8), epochs=10)")
    zoo = Zoo(tmp_path)
    zoo.build([recipe], workers=1)
    assert zoo.card(recipe).accuracy > 0.3


@pytest.mark.parametrize("removal", ["prune_filters(4/16)", "fine_prune", "reparametrise"])
def test_what_names_no_units_is_not_stored_as_pruned(tmp_path, removal):
    with pytest.raises(UsageError, match="hidden units"):
        Zoo(tmp_path).build([parse_recipe(f"train(own, digits(size=8), epochs=1) -> {removal}")], workers=1)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("plain", "Plain is a plain module, which has no objective. Derive it from whorl.nets.base.Classifier"),
        ("shapeless", "A net of the catalog takes input_shape and classes"),
        ("headless", r"Headless has no head; type in its __init__: self.head"),
        ("silent", r"Silent has no input_shape; type in its __init__: super"),
        ("blind", "abstract method 'embed'|abstract method embed"),
    ],
)
def test_natural_mistakes_are_told_in_a_line(tmp_path, name, told):
    for recipe in (
        f"train({name}, digits(size=8), epochs=1)",
        f"train(mlp, digits(size=8)) -> extract({name}, seed=5)",
    ):
        with pytest.raises(UsageError, match=told) as error:
            Zoo(tmp_path).build([parse_recipe(recipe)], workers=1)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match=told):
        check_net(name)


def test_an_incomplete_module_is_told_in_a_line_where_it_is_opened():
    with pytest.raises(UsageError, match="Headless has no head"):
        open_oracle(Headless((1, 8, 8), 10))
    with pytest.raises(UsageError, match="Silent has no input_shape"):
        open_oracle(Silent((1, 8, 8), 10))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("chancy", "global random state"),
        ("batchy", "one by one"),
        ("boastful", "hidden units 0 of boastful are not what it says"),
        ("misplaced", "was built for"),
    ],
)
def test_a_false_net_is_found(name, told):
    with pytest.raises(AssertionError, match=told):
        check_net(name)
