"""What other tools read: GraphML, CycloneDX, and the shares of merges they carry."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from importlib.metadata import version

import networkx as nx
import pytest
import torch
from safetensors.torch import save_file

from whorl.checkpoints.opening import open_checkpoint
from whorl.printable import escaped
from whorl.report.tree import tree_page
from whorl.weights.family.exports import cyclonedx, graphml
from whorl.weights.family.gathering import gather
from whorl.weights.family.merges import merges_of
from whorl.weights.family.planting import Edge, Family, Root
from whorl.weights.family.tree import Lineage, document

MADE = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def nets(tmp_path):
    """Nets without an architecture: s, t, u, a merge of two or three of them, and a stranger."""
    generator = torch.Generator().manual_seed(0)
    start, *moved = (torch.randn(128, 96, generator=generator) for _ in range(5))
    s, t, u = (start + 0.1 * each for each in moved[:3])
    made = {"s": s, "t": t, "u": u, "two": 0.3 * s + 0.7 * t, "three": (s + t + u) / 3, "stranger": moved[3]}
    for name, value in made.items():
        save_file({"w": value}, tmp_path / f"{name}.safetensors")
    return tmp_path


@pytest.fixture
def found(nets):
    """A tree written down: s and t without direction, two from both; and a copy of s."""
    (nets / "copy.safetensors").write_bytes((nets / "s.safetensors").read_bytes())
    s, t, two = names = tuple(f"{name}.safetensors" for name in ("s", "t", "two"))
    edges = (
        Edge(s, t, 0.2, False, "weights", ("tuned: a bit",)),
        Edge(s, two, 0.1, True, "weights", ("tuned: <more> & more",), 0.3, 0.01),
        Edge(t, two, 0.1, True, "weights", (), 0.7, 0.01),
    )
    members = tuple(member for member in gather(nets)[0] if member.name in names)
    family = Family(names, (Root(s, (s,), "told"),), edges)
    return Lineage("nets", (family,), members, {}, (), (), 0.01, 3, 3, 3, {}, MADE), dict(
        zip(("s", "t", "two"), names, strict=True)
    )


def test_graphml_parses_back(found):
    tree, name = found
    graph = nx.read_graphml(io.BytesIO(graphml(tree).encode()))
    assert set(graph) == set(name.values())
    assert graph.edges[name["s"], name["two"]]["share"] == pytest.approx(0.3)
    assert graph.edges[name["s"], name["two"]]["evidence"] == "tuned: <more> & more"
    assert graph.edges[name["s"], name["t"]]["directed"] is False
    assert graph.nodes[name["s"]]["root"] is True
    assert len(graph.nodes[name["t"]]["sha256"]) == 64


def test_names_that_xml_cannot_hold_stay_apart_and_whole(found):
    tree, _ = found
    hostile = ("a|b`c`<x>&\"'\x1b[2J", "a|b`c`<x>&\"'\x1c[2J", "line\nbreak\u202e\ufffe\\n")
    renamed = dict(zip((member.name for member in tree.members), hostile, strict=True))
    members = tuple(replace(member, name=renamed[member.name], copies=("x\ny", "z\x00")) for member in tree.members)
    (family,) = tree.families
    edges = tuple(
        replace(edge, parent=renamed[edge.parent], child=renamed[edge.child], ancestor="\x07", evidence=("e\x1b\nf",))
        for edge in family.edges
    )
    roots = tuple(replace(root, name=renamed[root.name]) for root in family.roots)
    written = replace(family, members=hostile, edges=edges, roots=roots)
    text = graphml(replace(tree, folder="nets\x02", families=(written,), members=members))
    assert all(mark.isprintable() or mark == "\n" for mark in text)
    graph = nx.read_graphml(io.BytesIO(text.encode()))
    assert list(graph) == [escaped(name) for name in hostile]
    assert len(graph) == len(hostile)
    assert {graph.nodes[name]["copies"] for name in graph} == {"x\\ny\nz\\u0000"}
    assert {edge["evidence"] for *_, edge in graph.edges(data=True)} == {"e\\u001b\\nf"}
    assert {edge["ancestor"] for *_, edge in graph.edges(data=True)} == {"\\u0007"}
    assert graph.graph["folder"] == "nets\\u0002"


def test_cyclonedx_names_ancestors_and_variants(found):
    tree, name = found
    bill = json.loads(json.dumps(cyclonedx(tree)))
    assert {each["type"] for each in bill["components"]} == {"machine-learning-model"}, "of the format's own types"
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["serialNumber"].startswith("urn:uuid:")
    models = {each["name"]: each for each in bill["components"]}
    pedigree = models[name["two"]]["pedigree"]
    assert {each["name"] for each in pedigree["ancestors"]} == {name["s"], name["t"]}
    shares = {each["name"]: {p["name"]: p["value"] for p in each["properties"]} for each in pedigree["ancestors"]}
    assert shares[name["s"]]["whorl:share"] == "0.3"
    source = models[name["s"]]
    assert [each["name"] for each in source["pedigree"]["descendants"]] == [name["two"]]
    assert [each["name"] for each in source["pedigree"]["variants"]] == [name["t"]]
    assert [each["value"] for each in source["properties"]] == ["copy.safetensors"]
    assert len({each["bom-ref"] for each in models.values()}) == 3
    assert cyclonedx(tree) == cyclonedx(tree)


def test_outputs_carry_date_tool_version_and_hashes(found):
    tree, _ = found
    bill, page = cyclonedx(tree), tree_page(tree)
    assert bill["metadata"]["timestamp"] == MADE
    assert bill["metadata"]["tools"]["components"] == [
        {"type": "application", "name": "whorl", "version": version("whorl")}
    ]
    hashes = {member.digest for member in tree.members}
    assert {each["hashes"][0]["content"] for each in bill["components"]} == hashes
    assert all(digest in page for digest in hashes)
    assert f"whorl {version('whorl')}, {MADE}" in page
    told = document(tree)
    assert (told["made"], told["tool"]) == (MADE, {"name": "whorl", "version": version("whorl")})


def test_shares_of_merges_are_least_squares(nets):
    names = ["s", "t", "u", "two", "stranger"]
    found = merges_of([open_checkpoint(nets / f"{name}.safetensors") for name in names])
    assert list(found) == [3]
    assert found[3].shares == pytest.approx({0: 0.3, 1: 0.7}, abs=1e-3)
    assert found[3].unexplained < 1e-6


def test_three_parents_are_found(nets):
    names = ["s", "t", "u", "three", "stranger"]
    found = merges_of([open_checkpoint(nets / f"{name}.safetensors") for name in names])
    assert list(found) == [3]
    assert found[3].shares == pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 1 / 3}, abs=1e-3)


def test_the_middle_of_a_walk_is_no_merge(tmp_path):
    """Steps that do not go straight on: half the squared distance stays unexplained."""
    generator = torch.Generator().manual_seed(1)
    value, files = torch.randn(64, 64, generator=generator), []
    for step in range(4):
        files.append(tmp_path / f"{step}.safetensors")
        save_file({"w": value}, files[-1])
        value = value + 0.1 * torch.randn(64, 64, generator=generator)
    assert merges_of([open_checkpoint(file) for file in files]) == {}
