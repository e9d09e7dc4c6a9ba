"""``whorl lineage``: trees on stdout and in files, chatter on stderr, and no pair compared twice."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import networkx as nx
import pytest
import torch
from safetensors.torch import load_file, save_file
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
    assert "1 pair: 1 compared in full (1 now)" in first.stdout
    assert "1 pair: 1 compared in full (0 now)" in second.stdout
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
    assert "no such file" in absent.stderr


@pytest.fixture
def suspects(folder, tmp_path):
    """Half precision of the net in the folder, a stranger, and one that nothing tests."""
    chance = torch.Generator().manual_seed(5)
    value = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    (folder / "half.safetensors").unlink()
    save_file({"w": value.bfloat16()}, tmp_path / "cast.safetensors")
    save_file({"other": torch.randn(3, 3, generator=chance)}, tmp_path / "stranger.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("suspect", "fail_on", "code"),
    [
        ("cast", None, 0),
        ("cast", "related", 3),
        ("cast", "inconclusive", 0),
        ("stranger", "related", 0),
        ("stranger", "inconclusive", 4),
        ("stranger", "untested", 4),
    ],
)
def test_a_suspect_ends_in_the_code_that_was_asked_for(folder, suspects, suspect, fail_on, code):
    options = ["--fail-on", fail_on] if fail_on else []
    path = suspects / f"{suspect}.safetensors"
    result = call(folder, "--suspect", path, "--json", "-q", "--cache", suspects / "cache", *options)
    assert result.exit_code == code, result.output
    told = json.loads(result.stdout)
    assert told["decision"] == ("related" if suspect == "cast" else "inconclusive")
    assert told["suspect"]["sha256"] != told["candidates"][0]["sha256"] if told["candidates"] else suspect == "stranger"
    assert {"tool", "made", "alpha", "nets", "candidates", "skipped", "caveats"} <= told.keys()


def test_a_suspects_text_and_page_name_parent_architecture_and_hashes(folder, suspects):
    page = suspects / "page.html"
    result = call(folder, "--suspect", suspects / "cast.safetensors", "--cache", suspects / "cache", "-o", page)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("RELATED")
    assert "net.safetensors" in result.stdout
    assert "read: 1 as unknown" in result.stdout
    assert "not read: broken.safetensors" in result.stderr
    told = json.loads(call(folder, "--suspect", suspects / "cast.safetensors", "--json", "-q").stdout)
    assert told["suspect"]["sha256"] in page.read_text()
    assert told["candidates"][0]["sha256"] in page.read_text()
    assert told["tool"]["version"] in page.read_text()


def test_a_suspect_asks_for_no_tree_and_a_tree_for_no_verdict(folder, suspects):
    wrong = call(folder, "--suspect", suspects / "cast.safetensors", "-o", suspects / "tree.svg")
    assert wrong.exit_code == 2
    assert ".html, .json" in wrong.stderr
    wrong = call(folder, "--fail-on", "related")
    assert wrong.exit_code == 2
    assert "--suspect FILE" in wrong.stderr
    absent = call(folder, "--suspect", suspects / "absent.safetensors", "--cache", suspects / "cache")
    assert absent.exit_code == 2
    assert "no such file" in absent.stderr


def test_a_pair_that_fails_is_a_note_and_never_the_end(folder, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ArithmeticError("no luck")

    monkeypatch.setattr("whorl.weights.family.relations.compare", fail)
    result = call(folder, "--cache", tmp_path / "cache")
    assert result.exit_code == 0, result.output
    assert "ArithmeticError: no luck" in result.stderr
    assert "0 compared in full (0 now), 1 that could not be tested" in result.stdout
    monkeypatch.undo()
    assert "1 compared in full (1 now)" in call(folder, "--cache", tmp_path / "cache").stdout


def test_what_cannot_be_read_is_told_with_the_reason_and_quietly_in_one_line(folder, tmp_path):
    for name in ("net.jit", "net.tflite", "net.keras", "notes.md", "optimizer.pt"):
        (folder / name).write_bytes(b"\x00\x01")
    (folder / "text.onnx").write_text("<html>not found</html>")
    (folder / "gone.pt").symlink_to("nowhere")
    loud, quiet = (call(folder, "--cache", tmp_path / "c", *more) for more in ((), ("-q",)))
    told = [line for line in loud.stderr.splitlines() if line.startswith("not read: ")]
    names = ["broken.safetensors", "gone.pt", "net.jit", "net.keras", "net.tflite", "text.onnx"]
    assert [line.split(": ")[1] for line in told] == names
    assert "holds TorchScript" in told[2]
    assert "holds text and no weights: a page of HTML" in told[5]
    assert "not found" not in told[5]
    assert len(quiet.stderr.splitlines()) == 1
    assert quiet.stderr.startswith("not read: broken.safetensors: ")
    assert "net.tflite: holds TensorFlow Lite, which is not read here; and 1 others" in quiet.stderr


def test_one_net_alone_needs_others(folder, tmp_path):
    (tmp_path / "alone").mkdir()
    (folder / "net.safetensors").rename(tmp_path / "alone" / "net.safetensors")
    told = call(tmp_path / "alone", "-q", "--cache", tmp_path / "c")
    assert (told.exit_code, told.stderr) == (0, "")
    assert "one net: lay others beside it, or name it with --suspect beside a folder of others" in told.stdout


def test_a_suspect_inside_of_the_folder_is_told_and_compared_with_the_others(folder, tmp_path):
    told = call(
        folder, "--suspect", folder / "half.safetensors", "-q", "--cache", tmp_path / "c", "-o", tmp_path / "t.html"
    )
    assert "the suspect lies in the folder, as half.safetensors; it was compared with the others" in told.stdout
    assert "The suspect lies in the folder, as half.safetensors." in (tmp_path / "t.html").read_text()
    outside = tmp_path / "half.safetensors"
    (folder / "half.safetensors").rename(outside)
    assert "lies in the folder" not in call(folder, "--suspect", outside, "-q", "--cache", tmp_path / "c").stdout


def test_a_root_in_several_files_is_shown(folder, tmp_path):
    whole = load_file(folder / "net.safetensors")
    save_file({"val_7": whole["w"].T.contiguous()}, folder / "export.safetensors")
    told = call(folder, "-q", "--cache", tmp_path / "c").stdout
    assert "root one net, of which any file may be the first: evidence of direction leaves no other" in told
    assert "(export.safetensors, net.safetensors)" in told
