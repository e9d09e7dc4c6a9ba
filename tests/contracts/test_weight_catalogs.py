"""Readers, namings and tests of weights are catalogued: each name keeps its word, and a plug-in can add one."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint

import pytest
import torch
from safetensors.torch import save_file

from whorl import catalog as catalog_module
from whorl.checkpoints.checkpoint import Checkpoint
from whorl.checkpoints.naming import NAMINGS, Naming, namings
from whorl.checkpoints.opening import READERS, open_checkpoint, suffixes, wholes
from whorl.checkpoints.roles import Key, Weights
from whorl.errors import UsageError
from whorl.weights.findings import TESTS, Test, about
from whorl.weights.operation import KINDS, Operation

PLUGGED = """
import json
import torch
from whorl.checkpoints.checkpoint import Checkpoint, TensorEntry
from whorl.checkpoints.naming import Naming
from whorl.weights.findings import Test
from whorl.weights.independence import Signs

class Listed(Checkpoint):
    format = "listed"
    suffixes = (".listed",)
    whole = ("net.listed",)

    def __init__(self, path):
        held = json.loads((path / "net.listed" if path.is_dir() else path).read_text())
        self._held = {name: torch.tensor(row) for name, row in held.items()}
        super().__init__(path, {name: TensorEntry((len(row),), "F32", 4 * len(row)) for name, row in held.items()}, {})

    def _stored(self, name, rows):
        return self._held[name] if rows is None else self._held[name][list(rows)]

ODD = Naming("odd", {"embedding": "words", "up": "block.{layer}.wide", "down": "block.{layer}.narrow"})

class Coins(Test):
    def observe(self, first, second, axes, layer, paired):
        yield Signs(3, 4), 0.5

COINS = Coins("the two were tossed apart", "a fair coin", "tossing again", exact=True)
"""
ENTRIES = [
    EntryPoint("listed", "plugged_weights:Listed", "whorl.readers"),
    EntryPoint("odd", "plugged_weights:ODD", "whorl.namings"),
    EntryPoint("coins", "plugged_weights:COINS", "whorl.weight_tests"),
]


@pytest.fixture
def plugged(tmp_path, monkeypatch):
    (tmp_path / "plugged_weights.py").write_text(PLUGGED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "plugged_weights", raising=False)
    monkeypatch.setattr(
        catalog_module, "entry_points", lambda *, group: [each for each in ENTRIES if each.group == group]
    )
    for catalog in (READERS, NAMINGS, TESTS):
        catalog.__dict__.pop("_targets", None)
    yield tmp_path
    for catalog in (READERS, NAMINGS, TESTS):
        catalog.__dict__.pop("_targets", None)


@pytest.mark.parametrize("name", READERS)
def test_reader_says_what_its_files_are_called(name):
    kind = READERS[name]
    assert issubclass(kind, Checkpoint)
    assert kind.format == name
    assert all(suffix.startswith(".") and suffixes()[suffix] is kind for suffix in kind.suffixes)
    assert all(wholes()[file] is kind for file in kind.whole)


@pytest.mark.parametrize("name", NAMINGS)
def test_naming_is_of_known_roles(name):
    naming = NAMINGS[name]
    assert isinstance(naming, Naming)
    assert naming.name == name
    assert any("up" in role for role in naming.parts)


def test_what_names_do_not_tell_is_taken_only_where_it_is_named():
    """A family whose norms are read otherwise needs a word of its own in the configuration."""
    assert all(naming.models for naming in namings().values() if naming.norm_offset)


@pytest.mark.parametrize("name", TESTS)
def test_test_says_what_it_assumes_and_what_evades_it(name):
    found = about(name)
    assert isinstance(found, Test)
    assert all((found.null_hypothesis, found.assumption, found.evasion))
    assert found.decides or not found.exact


def test_unknown_names_are_near_misses():
    with pytest.raises(UsageError, match="Did you mean gated signs"):
        about("gate signs")
    with pytest.raises(UsageError, match=r"no such operation: 'prunned'\. Did you mean pruned"):
        Operation("prunned", "by half")
    assert all(not kind.disguise or kind.turned for kind in KINDS.values())


def test_a_plug_in_reads_files_of_its_own(plugged):
    (plugged / "net.listed").write_text(json.dumps({"a": [1.0, 2.0]}))
    for path in (plugged / "net.listed", plugged):
        assert open_checkpoint(path).read("a").tolist() == [1.0, 2.0]


def test_a_plug_in_names_tensors_of_its_own(plugged):
    net = {"words": torch.randn(9, 4), "block.0.wide": torch.randn(6, 4), "block.0.narrow": torch.randn(4, 6)}
    save_file(net, plugged / "odd.safetensors")
    weights = Weights(open_checkpoint(plugged / "odd.safetensors"))
    assert Key("up", 0) in weights
    assert weights.structure.architecture == "odd"


def test_a_plug_in_tests_weights_too(plugged):
    from whorl.weights.comparison import compare, document

    for name, seed in (("one", 0), ("two", 1)):
        generator = torch.Generator().manual_seed(seed)
        net = {
            "model.embed_tokens.weight": torch.randn(40, 8, generator=generator),
            **{
                f"model.layers.0.mlp.{part}_proj.weight": torch.randn(*shape, generator=generator)
                for part, shape in (("gate", (12, 8)), ("up", (12, 8)), ("down", (8, 12)))
            },
        }
        save_file(net, plugged / f"{name}.safetensors")
    told = document(compare(*(open_checkpoint(plugged / f"{name}.safetensors") for name in ("one", "two"))))
    coins = next(each for each in told["tests"] if each["name"] == "coins")
    assert coins["result"] == "3 of 4 signs agree"
    assert coins["evasion"] == "tossing again"
