"""Names are looked up lazily, and wrong ones say what is near."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from whorl import catalog as catalog_module
from whorl.catalog import Catalog
from whorl.errors import UsageError

SHELF = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Point:
    x: float
    y: float = 2.0
    colour: str = "red"

def circle(radius, *, generator=None):
    return ("circle", radius, generator)
"""


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog[object]:
    (tmp_path / "shelf_of_shapes.py").write_text(SHELF)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shelf_of_shapes", raising=False)
    targets = {"point": "shelf_of_shapes:Point", "circle": "shelf_of_shapes:circle", "absent": "no_such_module:f"}
    return Catalog("shapes", targets, fixed=("generator",))


def test_listing_imports_nothing(shapes: Catalog[object]) -> None:
    assert list(shapes) == ["absent", "circle", "point"]
    assert len(shapes) == 3
    assert "point" in shapes
    assert "line" not in shapes
    assert "shelf_of_shapes" not in sys.modules
    assert shapes["point"].__name__ == "Point"
    assert "shelf_of_shapes" in sys.modules


def test_parameters_and_binding(shapes: Catalog[object]) -> None:
    assert shapes.parameters("point") == {"x": ..., "y": 2.0, "colour": "red"}
    assert shapes.parameters("circle") == {"radius": ...}
    texts = {str(shapes.bind(text)) for text in ("point(1)", "point(x=1)", "point(colour=red, x=1, y=2.0)")}
    assert texts == {"point(x=1, y=2.0, colour=red)"}
    bound = shapes.bind("point(1)")
    assert shapes.bind(bound) == bound


def test_making(shapes: Catalog[object]) -> None:
    assert str(shapes.make("point(1, colour=blue)")) == "Point(x=1, y=2.0, colour='blue')"
    assert shapes.make("circle(3)", generator="g") == ("circle", 3, "g")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pont(1)", r"no such name among the shapes: 'pont'\. Did you mean point\?"),
        ("zzz", r"Known: absent, circle, point\."),
        ("point(1, color=red)", r"no parameter 'color'\. Did you mean colour\?"),
        ("point(1, qqq=red)", r"Known: x, y, colour\."),
        ("point", "point needs x"),
        ("point(1, x=2)", "'x' is given twice"),
        ("point(1, 2, red, 4)", "takes 3 parameters: x, y, colour"),
        ("circle(1, generator=2)", "no parameter 'generator'"),
        ("point(", "cannot read the expression"),
    ],
)
def test_mistakes(shapes: Catalog[object], text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shapes.make(text)


def test_plug_ins_add_names_and_may_not_take_them(shapes: Catalog[object], monkeypatch: pytest.MonkeyPatch) -> None:
    installed = [EntryPoint("disc", "shelf_of_shapes:circle", "whorl.shapes")]
    monkeypatch.setattr(
        catalog_module, "entry_points", lambda *, group: [entry for entry in installed if entry.group == group]
    )
    extended: Catalog[object] = Catalog("shapes", {"circle": "shelf_of_shapes:circle"}, fixed=("generator",))
    assert list(extended) == ["circle", "disc"]
    assert extended.make("disc(2)") == ("circle", 2, None)
    assert "disc" not in Catalog("colours", {})
    installed.append(EntryPoint("circle", "evil:circle", "whorl.shapes"))
    clashing: Catalog[object] = Catalog("shapes", {"circle": "shelf_of_shapes:circle"})
    with pytest.raises(UsageError, match="a plug-in redefines the shapes circle"):
        list(clashing)
