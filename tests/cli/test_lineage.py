"""``whorl lineage``: trees on stdout and in files, chatter on stderr, and no pair compared twice."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import networkx as nx
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from whorl.cli.app import app

runner = CliRunner()


@pytest.fixture
def folder(tmp_path):
    """A bare net, what half precision made of it, a copy and a broken file."""
    value = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    place = tmp_path / "nets"
    place.mkdir()
    save_file({"w": value}, place / "net.safetensors")
    save_file({"w": value}, place / "net-copy.safetensors")
    save_file({"w": value.half()}, place / "half.safetensors")
    (place / "broken.safetensors").write_bytes(b"no")
    return place


def call(*arguments):
    return runner.invoke(app, ["lineage", *map(str, arguments)])


def test_json_alone_is_on_stdout(folder, tmp_path):
    result = call(folder, "--json", "--cache", tmp_path / "cache")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["checkpoints"]["net.safetensors"]["copies"] == ["net-copy.safetensors"]
    assert list(told["skipped"]) == ["broken.safetensors"]
    assert [len(family["members"]) for family in told["families"]] == [2]
    assert "not read: broken.safetensors" in result.stderr


def test_a_second_run_compares_nothing(folder, tmp_path):
    first, second = (call(folder, "-q", "--cache", tmp_path / "cache") for _ in range(2))
    assert "1 pairs (1 compared now)" in first.stdout
    assert "1 pairs (0 compared now)" in second.stdout
    assert "net-copy.safetensors" in second.stdout


def test_files_by_suffix(folder, tmp_path):
    names = ("t.svg", "t.html", "t.json", "t.graphml", "t.cdx.json")
    result = call(
        folder, "-q", "--cache", tmp_path / "c", *(part for name in names for part in ("-o", tmp_path / name))
    )
    assert result.exit_code == 0, result.output
    assert ElementTree.parse(tmp_path / "t.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "t.html").read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "t.json").read_text())["pairs"] == 1
    assert len(nx.read_graphml(tmp_path / "t.graphml")) == 2
    assert json.loads((tmp_path / "t.cdx.json").read_text())["bomFormat"] == "CycloneDX"


def test_mistakes_end_in_one_line_before_anything_is_read(folder, tmp_path):
    wrong = call(folder, "-o", "tree.png", "--cache", tmp_path)
    assert wrong.exit_code == 2
    assert ".graphml" in wrong.stderr
    absent = call(tmp_path / "absent", "--cache", tmp_path / "c")
    assert absent.exit_code == 2
    assert "no folder" in absent.stderr
