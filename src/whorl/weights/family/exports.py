"""Family trees in the formats of other tools: GraphML, and the pedigree of a CycloneDX bill of materials.

In both a step whose direction is not told says so: GraphML edges carry ``directed`` (the format's own edges always
point somewhere), and CycloneDX, which has ancestors, descendants and variants, gets a variant on both sides.
"""

from __future__ import annotations

import io
import math
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import networkx as nx

from whorl.printable import escaped
from whorl.weights.family.gathering import Member
from whorl.weights.family.planting import Edge
from whorl.weights.family.tree import Lineage, tool

__all__ = ["cyclonedx", "graph", "graphml"]

SPECIFICATION: Final = "1.6"


def graph(found: Lineage) -> nx.DiGraph:
    """A node for each net (``sha256``, ``copies``, ``family``, ``root``), an edge for each step.

    ``copies`` and ``evidence`` hold one a line, each `escaped`, since a name may hold a line end itself.
    """
    maker = tool()
    drawn = nx.DiGraph(
        folder=found.folder, alpha=found.alpha, made=found.made, tool=f"{maker['name']} {maker['version']}"
    )
    family = {name: place for place, each in enumerate(found.families) for name in each.members}
    roots = {root.name for each in found.families for root in each.roots}
    for member in found.members:
        drawn.add_node(
            member.name,
            sha256=member.digest,
            copies="\n".join(map(escaped, member.copies)),
            parameters=member.checkpoint.parameters,
            family=family[member.name],
            root=member.name in roots,
        )
    for edge in (edge for each in found.families for edge in each.edges):
        merged = {"share": edge.share, "unexplained": edge.unexplained, "ancestor": edge.ancestor}
        drawn.add_edge(
            edge.parent,
            edge.child,
            distance=edge.distance,
            directed=edge.directed,
            evidence="\n".join(map(escaped, edge.evidence)),
            **{name: value for name, value in merged.items() if value is not None},
        )
    return drawn


def graphml(found: Lineage) -> str:
    """The same as GraphML, in which names and texts are `escaped`: XML has no word for most control characters."""
    drawn = graph(found)
    drawn = nx.relabel_nodes(drawn, {name: escaped(name) for name in drawn})
    for held in (drawn.graph, *(edge for _, _, edge in drawn.edges(data=True))):
        held.update({key: escaped(held[key]) for key in ("folder", "ancestor") if key in held})
    written = io.BytesIO()
    nx.write_graphml_xml(drawn, written)
    return written.getvalue().decode()


def cyclonedx(found: Lineage) -> dict[str, Any]:
    """A bill of materials, CycloneDX 1.6: each net a ``machine-learning-model`` with its ``pedigree``.

    Its serial number depends on the nets alone; hashes are those of tensors' names, types, shapes and numbers.
    Distances and shares of merges are properties named ``whorl:...``.
    """
    members = {member.name: member for member in found.members}
    steps = [edge for family in found.families for edge in family.edges]
    serial = uuid5(NAMESPACE_URL, "whorl:" + ",".join(sorted(member.identity for member in found.members)))
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPECIFICATION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"timestamp": found.made, "tools": {"components": [{"type": "application", **tool()}]}},
        "components": [_model(member, members, steps) for member in found.members],
    }


def _model(member: Member, members: dict[str, Member], steps: list[Edge]) -> dict[str, Any]:
    above = [edge for edge in steps if edge.child == member.name]
    below = [edge for edge in steps if edge.parent == member.name]
    pedigree = {
        "ancestors": [_component(members[edge.parent], edge) for edge in above if edge.directed],
        "descendants": [_component(members[edge.child], edge) for edge in below if edge.directed],
        "variants": [_component(members[edge.parent], edge) for edge in above if not edge.directed]
        + [_component(members[edge.child], edge) for edge in below if not edge.directed],
        "notes": "; ".join(note for edge in above for note in edge.evidence),
    }
    held = {key: value for key, value in pedigree.items() if value}
    copies = [{"name": "whorl:copy", "value": name} for name in member.copies]
    return (
        _component(member)
        | {"bom-ref": member.identity}
        | ({"properties": copies} if copies else {})
        | ({"pedigree": held} if held else {})
    )


def _component(member: Member, edge: Edge | None = None) -> dict[str, Any]:
    """A net on its own, or as it stands in the pedigree of another."""
    told: dict[str, Any] = {
        "type": "machine-learning-model",
        "name": member.name,
        "hashes": [{"alg": "SHA-256", "content": member.digest}],
    }
    if edge is not None:
        values = {
            "whorl:distance": edge.distance,
            "whorl:share": edge.share,
            "whorl:unexplained": edge.unexplained,
        }
        told["properties"] = [
            {"name": name, "value": f"{value:.4g}"}
            for name, value in values.items()
            if value is not None and math.isfinite(value)
        ]
    return told
