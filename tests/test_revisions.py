"""Results are of this code: what is declared is what the source says, and a change makes anew what depends on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from whorl import revisions
from whorl.errors import InvalidFile, UsageError
from whorl.nets import NETS
from whorl.queries import QUERIES
from whorl.removals import REMOVALS
from whorl.revisions import changed_since, closure, digest_of, revisions_of, tree
from whorl.schemes import SCHEMES
from whorl.testing import revisions as table
from whorl.zoo.code import code_of, code_of_model
from whorl.zoo.recipe import parse_recipe

CACHED = ("_digest_of", "revision", "tree", "_parsed", "_imports", "_file", "declared")

SCHEME = '''
"""A plug-in."""

from dataclasses import dataclass
from typing import ClassVar

from whorl.schemes.matching import Matching
from whorl.types import Access, Queries


@dataclass(frozen=True, kw_only=True)
class Mine(Matching):
    """The brightest pictures of one end."""

    name: ClassVar[str] = "mine"
    paper: ClassVar[str] = "none"
    idea: ClassVar[str] = "none"
    blind: ClassVar[str] = "much"
    needs_victim: ClassVar[Access] = Access.LABELS

    def sample(self, victim, data, *, budget, generator):
        """Noise of some strength, which is what the test changes."""
        pictures = data.inputs()[:budget]
        return Queries((pictures * STRENGTH).clamp(0, 1))
'''

RUN = """
import json, sys
from dataclasses import replace
from pathlib import Path
from tiny_suite import least_suite
from whorl.bench.runner import run

if __name__ == "__main__":
    suite = replace(least_suite(), schemes={"mine": "mine", "random": "random"})
    result = run(suite, folder=Path(sys.argv[1]), workers=1)
    cells = [(cell.scheme, cell.suspect, cell.similarity, cell.seconds) for cell in result.cells]
    print(json.dumps({"cells": cells, "revisions": result.revisions}))
"""


def fake(folder, monkeypatch, **files):
    """Modules of another package, which nothing was declared of."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    forget()


def forget():
    for name in CACHED:
        getattr(revisions, name).cache_clear()


@pytest.fixture(autouse=True)
def _clean():
    yield
    forget()


def test_every_module_that_makes_results_is_as_it_was_declared():
    moved = table.moved()
    assert moved == [], (
        f"{' '.join(moved)}: changed since declared. If no result moved, type\n"
        f"  python -m whorl.testing.revisions --same {' '.join(moved)}\nand --bump instead of --same if one did"
    )


def test_catalogues_name_nothing_that_is_not_declared():
    declared = revisions.declared()
    for catalog in (SCHEMES, REMOVALS, NETS, QUERIES):
        for name in catalog:
            assert {target.partition(":")[0] for target in catalog.targets(name)} <= declared.keys()


def test_a_scheme_does_not_depend_on_the_others():
    own = {name: closure(target.partition(":")[0] for target in SCHEMES.targets(name)) for name in SCHEMES}
    assert "whorl.queries.boundary" in own["ipguard"]
    assert "whorl.queries.boundary" not in own["deepfool"]
    schemes = {name for each in own.values() for name in each if name.startswith("whorl.schemes.")}
    made_of = ("base", "session", "asking", "calibration", "controls", "kin", "matching", "deepjudge")
    schemes -= {f"whorl.schemes.{name}" for name in made_of}
    for name, modules in own.items():
        assert modules & schemes <= {SCHEMES.targets(name)[0].partition(":")[0]}, name


def test_parts_of_a_composed_scheme_and_of_a_recipe_are_found():
    code = code_of(SCHEMES, "train-negative+labels+hamming")
    assert {"whorl.queries.negatives:Negatives", "whorl.schemes.grid"} <= code
    recipe = parse_recipe("train(mlp, digits) -> extract('resnet8(width=4)', seed=500) -> quantise(int8)")
    targets = {"whorl.nets.plain:MLP", "whorl.nets.named:resnet8", "whorl.data.digits:Digits"}
    assert targets | {"whorl.removals.extract:Extract", "whorl.removals.quantise:Quantise"} <= code_of_model(recipe)


def test_words_and_layout_do_not_count_and_code_does(tmp_path, monkeypatch):
    plain = "def f(x: int) -> int:\n    return x + 1\n"
    fake(tmp_path, monkeypatch, one=plain, two=f'"""Said."""\n\n\n# why\n{plain}'.replace("+", " + "))
    (tmp_path / "two.py").write_text(
        '"""Said."""\n\n\n# why\ndef f(\n    x: int,\n) -> int:\n    """Adds."""\n    return (x + 1)\n'
    )
    (tmp_path / "three.py").write_text(plain.replace("1", "2"))
    assert tree("one") == tree("two") != tree("three")
    (tmp_path / "three.py").write_text(plain.replace("int", "float"))
    forget()
    assert tree("one") != tree("three")


def test_imports_for_types_are_left_out_and_those_in_functions_are_not(tmp_path, monkeypatch):
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import one_types\nelse:\n    import one_else\n"
    fake(tmp_path, monkeypatch, one=source + "def f():\n    from whorl.queries.boundary import Boundary\n")
    assert "whorl.queries.boundary" in closure(["one"])
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("from .inner import thing\n")
    (package / "inner.py").write_text("import whorl.cli.app\nfrom . import deeper\nthing = 1\n")
    (package / "deeper.py").write_text("")
    assert closure(["pack"]) == {"pack", "pack.inner", "pack.deeper"}


def test_a_raised_revision_makes_older_what_depends_on_it(monkeypatch):
    targets = {name: SCHEMES.targets(name) for name in ("ipguard", "fgsm")}
    before = {name: digest_of(each) for name, each in targets.items()}
    then = {name: revisions_of(each) for name, each in targets.items()}
    entries = {name: dict(entry) for name, entry in revisions.declared().items()}
    entries["whorl.queries.boundary"]["revision"] += 1
    raised = entries["whorl.queries.boundary"]["revision"]
    forget()
    monkeypatch.setattr(revisions, "declared", lambda: entries)
    assert digest_of(targets["fgsm"]) == before["fgsm"]
    assert changed_since(then["fgsm"], targets["fgsm"]) == ""
    assert digest_of(targets["ipguard"]) != before["ipguard"]
    assert changed_since(then["ipguard"], targets["ipguard"]) == f"whorl.queries.boundary: {raised - 1}, now {raised}"
    assert changed_since(None, targets["fgsm"]) == "revision unknown"
    made_before_declared = {"whorl.queries.boundary": f"tree {tree('whorl.queries.boundary')}"}
    assert changed_since(then["ipguard"] | made_before_declared, targets["ipguard"]) == ""
    monkeypatch.undo()


def test_code_that_is_not_as_declared_is_its_own_revision(monkeypatch):
    entries = {name: dict(entry) for name, entry in revisions.declared().items()}
    entries["whorl.queries.boundary"]["tree"] = "0" * 16
    del entries["whorl.queries.descent"]
    forget()
    monkeypatch.setattr(revisions, "declared", lambda: entries)
    found = revisions_of(SCHEMES.targets("ipguard"))
    assert {found[f"whorl.queries.{name}"][:5] for name in ("boundary", "descent")} == {"tree "}
    monkeypatch.undo()


def test_declarations(monkeypatch):
    old = {name: dict(entry) for name, entry in revisions.declared().items()}
    kept = dict(old)
    changed, raised, new = "whorl.queries.boundary", "whorl.queries.descent", "whorl.queries.natural"
    kept |= {changed: {"revision": 3, "tree": "0"}, raised: {"revision": 3, "tree": "0"}}
    kept |= {"whorl.queries.gone": {"revision": 2, "tree": "0"}}
    del kept[new]
    monkeypatch.setattr(table, "declared", lambda: kept)
    assert table.moved() == sorted([changed, raised, new, "whorl.queries.gone"])
    made = table.updated([changed], [raised])
    assert (made[changed]["revision"], made[raised]["revision"]) == (3, 4)
    assert new not in made
    assert "whorl.queries.gone" in made
    whole = table.updated(["all"], [])
    assert whole.keys() == old.keys()
    assert whole[new] == {"revision": 1, "tree": tree(new)}
    with pytest.raises(UsageError, match=r"random is as it was declared\. Those that changed: whorl"):
        table.updated(["whorl.schemes.random"], [])


def test_a_table_in_the_middle_of_a_merge_is_mended_by_the_command(tmp_path, monkeypatch):
    text = revisions.TABLE.read_text()
    line = next(line for line in text.splitlines() if line.startswith('"whorl.queries.boundary"'))
    theirs = '"whorl.queries.boundary": {"revision": 40, "tree": "0"},'
    merged = text.replace(line, f"<<<<<<< HEAD\n{theirs}\n=======\n{line}\n>>>>>>> other")
    path = tmp_path / "revisions.json"
    path.write_text(merged)
    monkeypatch.setattr(table, "TABLE", path)
    monkeypatch.setattr(revisions, "TABLE", path)
    forget()
    with pytest.raises(InvalidFile, match=r"Type: python -m whorl\.testing\.revisions --same all"):
        revisions.declared()
    assert table.moved() == ["whorl.queries.boundary"]
    table.main(["--same", "all"])
    entry = {"revision": 40, "tree": tree("whorl.queries.boundary")}
    assert json.loads(path.read_text()) == json.loads(text) | {"whorl.queries.boundary": entry}
    monkeypatch.undo()


def test_a_plug_in_has_its_source_its_version_and_what_it_declares(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, plugged="class A:\n    pass\n\n\nclass B:\n    revision = 7\n")
    monkeypatch.setattr(revisions, "packages_distributions", lambda: {"plugged": ["torch"]})
    plain, own = (revisions_of([f"plugged:{name}"])["plugged"] for name in "AB")
    assert plain.startswith(f"tree {tree('plugged')}, torch ")
    assert own == f"{plain}, revision 7"


def test_a_changed_scheme_of_a_plug_in_is_run_again(tmp_path):
    """Its numbers are new; those of the scheme beside it come from the store, to the second that they took."""
    info = tmp_path / "mine-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[whorl.schemes]\nmine = mine:Mine\n")
    (info / "top_level.txt").write_text("mine\n")
    (tmp_path / "run.py").write_text(RUN)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])

    def run(strength):
        (tmp_path / "mine.py").write_text(f"STRENGTH = {strength}\n{SCHEME}")
        command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "cache")]
        environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        cells = {name: [cell for cell in found["cells"] if cell[0] == name] for name in ("mine", "random")}
        return cells, found["revisions"]["mine"]

    first, then = run(1.0)
    changed, now = run(0.0)
    assert now != then
    assert changed["random"] == first["random"]
    assert {cell[2] for cell in first["mine"]} - {0.0, 1.0}
    assert {cell[2] for cell in changed["mine"]} <= {0.0, 1.0}  # everybody gives one answer to black
