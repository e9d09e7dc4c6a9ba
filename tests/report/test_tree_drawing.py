"""The picture of a tree: whole, self-contained, and honest about direction."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from whorl.report.tree import tree_page, tree_picture
from whorl.weights.family.planting import Edge, Family, Root
from whorl.weights.family.tree import Lineage

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert(1)</script>&\u202e"


class Net:
    def __init__(self, name, copies=()):
        self.name, self.copies, self.architecture, self.digest = name, copies, HOSTILE, "5e" * 32


@pytest.fixture
def found():
    edges = (
        Edge("base", "tune", 0.2, False, "weights", ("tuned: by 20%",)),
        Edge("base", HOSTILE, 0.2, True, "weights", ("pruned: half",)),
        Edge("tune", "merged", 0.1, True, "weights", (), 0.6, 0.01),
        Edge(HOSTILE, "merged", 0.1, True, "weights", (), 0.4, 0.01),
    )
    family = Family(("base", "tune", HOSTILE, "merged"), (Root(None, ("base", "tune"), "nearest"),), edges)
    alone = Family(("alone",), (Root("alone", ("alone",), "nothing"),), ())
    nets = (Net("base", ("again",)), Net("tune"), Net(HOSTILE), Net("merged"), Net("alone"))
    failed, made = {"base and alone": "lost <its> way"}, "2026-01-02T03:04:05+00:00"
    skipped = {"bad.bin": "is <broken>"}
    return Lineage("nets", (family, alone), nets, skipped, (), (), 0.01, 10, 10, 10, failed, made)


def test_every_net_has_a_line_and_every_step_a_path(found):
    picture = ElementTree.fromstring(str(tree_picture(found)))
    assert len(picture.findall(f"{SVG}circle")) == 5
    kinds = [each.get("class", "") for each in picture.findall(f"{SVG}path")]
    assert (kinds.count("loose"), kinds.count("told"), kinds.count("merge")) == (1, 1, 2)
    assert sum("head" in kind for kind in kinds) == 3  # none on the step without direction
    words = " ".join(picture.itertext())
    assert "direction undetermined" in words
    assert "again" in words
    assert "40%" in words
    assert picture.find(f"{SVG}title") is not None


def test_the_picture_stands_alone_in_light_and_dark(found):
    picture = str(tree_picture(found))
    assert "prefers-color-scheme:dark" in picture
    assert not re.search(r"(href|src|url\()", picture)
    assert "<script" not in picture
    assert "\u202e" not in picture


def test_texts_stay_inside(found):
    picture = ElementTree.fromstring(str(tree_picture(found)))
    left, top, width, height = map(float, picture.get("viewBox").split())
    for each in picture.iter(f"{SVG}text"):
        long = len("".join(each.itertext()))
        assert left <= float(each.get("x")) + 5.0 * long <= left + width
        assert top <= float(each.get("y")) <= top + height


def test_the_page_says_what_was_not_read_and_what_roots_rest_on(found):
    page = tree_page(found)
    assert "is &lt;broken&gt;" in page
    assert "lost &lt;its&gt; way" in page
    assert "none is told: nearest (base, tune)" in page
    assert page.count("5e" * 32) == 5
    assert page.count("<svg") == 1
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
