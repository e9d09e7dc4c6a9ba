"""Strangers of one's own architecture: code that a person names and consents to, with layers of any kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from whorl import populations, revisions
from whorl.errors import InvalidFile, UsageError
from whorl.expressions import parse
from whorl.nets import NETS
from whorl.nets.files import read_model
from whorl.zoo.cache import Zoo
from whorl.zoo.code import code_of_model
from whorl.zoo.recipe import parse_recipe

CODE = """
import torch
from torch import nn
from mine_sizes import WIDTH

class Attentive(nn.Module):
    def __init__(self, input_shape, classes):
        super().__init__()
        channels, height, width = input_shape
        self.patches = nn.Conv2d(channels, WIDTH, 4, 4)
        self.place = nn.Parameter(torch.randn(1, height * width // 16, WIDTH))
        self.register_buffer("scale", torch.tensor(2.0), persistent=False)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.norm = nn.LayerNorm(WIDTH)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, inputs):
        tokens = self.patches(inputs).flatten(2).transpose(1, 2) * self.scale + self.place
        return self.head(self.norm(self.drop(self.attention(tokens, tokens, tokens)[0])).mean(1))

def attentive(input_shape, classes):
    return Attentive(input_shape, classes)

def flat(classes, *, width=4, act=nn.ReLU):
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, width, 3), nn.GroupNorm(2, width), act())
            self.head = nn.LazyLinear(classes)
        def forward(self, inputs):
            return self.head(self.body(inputs).view(len(inputs), -1))
    return Flat()

def frozen(classes):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

def wide(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1000))

def number():
    return 3
"""
DATA = "digits(size=8), epochs=1"


def forget():
    """Let the code be read and run as if for the first time."""
    NETS._admitted.clear()
    code_of_model.cache_clear()
    for each in ("tree", "revision", "_parsed", "_imports", "_file", "_digest_of"):
        getattr(revisions, each).cache_clear()
    for name in ("mine", "mine_sizes"):
        sys.modules.pop(name, None)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The name of a module in the current folder, which lasts for one test."""
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "mine_sizes.py").write_text("WIDTH = 8\n")
    monkeypatch.chdir(tmp_path)
    forget()
    yield "mine"
    forget()


def test_code_runs_with_consent_only(mine, tmp_path):
    for text in (f"train({mine}:attentive, digits)", f"train('{mine}:flat(width=6)', digits)"):
        with pytest.raises(UsageError, match="--trust-code"):
            parse_recipe(text)
    assert "mine" not in sys.modules
    assert not NETS.admitted


@pytest.mark.parametrize("architecture", ["attentive", "flat(width=6)", "flat(4)"])
def test_strangers_of_any_layers_differ_by_seed_alone(mine, tmp_path, architecture):
    recipe = f"train({mine}:{architecture}, {DATA})"
    found = populations.strangers(recipe, 2, folder=tmp_path / "one", workers=1, trust_code=True)
    again = populations.strangers(recipe, 1, folder=tmp_path / "two", workers=1, trust_code=True)
    inputs = torch.rand(20, 1, 8, 8)
    first, second = (oracle.logits(inputs) for oracle in found.values())
    assert not torch.allclose(first, second)
    assert torch.equal(first, next(iter(again.values())).logits(inputs))
    card = Zoo(tmp_path / "one").card(parse_recipe(next(iter(found))))
    assert card.accuracy > 0.15  # what one epoch teaches
    assert parse_recipe(str(parse_recipe(recipe))) == parse_recipe(recipe)


def test_changed_code_is_another_model(mine, tmp_path):
    def stem():
        forget()
        return Zoo(tmp_path).path(parse_recipe(f"train({mine}:attentive, digits)", trust_code=True))

    before = stem()
    Path("mine.py").write_text(CODE.replace("Dropout(0.1)", "Dropout(0.2)"))
    changed = stem()
    Path("mine_sizes.py").write_text("WIDTH = 16\n")
    assert len({before, changed, stem()}) == 3


def test_a_model_file_that_names_code_does_not_run_it(mine, tmp_path):
    (path,) = [
        Zoo(tmp_path / "zoo").path(parse_recipe(recipe))
        for recipe in populations.strangers(f"train({mine}:flat, {DATA})", 1, folder=tmp_path / "zoo", trust_code=True)
    ]
    assert read_model(path)[1].architecture == "mine:flat"
    NETS._admitted.clear()
    with pytest.raises(InvalidFile, match="--trust-code"):
        read_model(path)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("frozen", "same weights for every seed"),
        ("wide", r"outputs \[2, 1000\] for 2 inputs and 10 classes"),
        ("number", "gave a int"),
        ("flat(depth=3)", "takes width, act"),
        ("missing", "failed: AttributeError"),
    ],
)
def test_code_that_makes_no_such_net_ends_in_one_line(mine, tmp_path, architecture, message):
    with pytest.raises(UsageError, match=message) as caught:
        populations.strangers(f"train({mine}:{architecture}, {DATA})", 1, folder=tmp_path, trust_code=True)
    assert "\n" not in str(caught.value)


def test_removals_are_for_nets_of_the_catalog(mine):
    with pytest.raises(UsageError, match="removals change nets"):
        parse_recipe(f"train({mine}:flat, {DATA}) -> quantise", trust_code=True)


def test_a_worker_imports_the_code_that_its_parent_may_run(mine, tmp_path):
    recipe = f"train({mine}:flat, {DATA})"
    arguments = (recipe, (f"{mine}:flat",), str(tmp_path), "cpu")
    script = f"from whorl.zoo.cache import _build_one; _build_one{arguments!r}"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    assert parse_recipe(recipe, trust_code=True) in Zoo(tmp_path)


def test_a_name_of_code_is_one_call():
    assert parse("mine:flat(width=6)").name == "mine:flat"
    assert str(parse("f(mine:flat(6), mine:flat)")) == 'f(mine:flat(6), "mine:flat")'
