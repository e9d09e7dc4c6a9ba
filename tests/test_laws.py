"""Laws of the house that no tool checks, read from the source itself."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

import whorl
from whorl.removals import REMOVALS
from whorl.schemes import SCHEMES

ROOT = Path(__file__).parents[1]
SOURCES = {str(path.relative_to(ROOT)): path for path in sorted((ROOT / "src").rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}
DOCUMENTED = ("metrics", "detection", "schemes", "removals", "queries", "oracles")
GLOBAL_RANDOMNESS = re.compile(
    r"(torch(\.random|\.cuda|\.mps)?\.(manual_seed|manual_seed_all|seed|set_rng_state)"
    r"|(np|numpy)\.random\.(?!default_rng\b|Generator\b|SeedSequence\b)\w+"
    r"|random\.\w+)"
)


def calls():
    """(file, line, what is called, the call) for every call in the source."""
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield f"{name}:{node.lineno}", ast.unparse(node.func), node


def imports():
    """(place, dotted name) for every import in the source."""
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from ((f"{name}:{node.lineno}", alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((f"{name}:{node.lineno}", f"{node.module}.{alias.name}") for alias in node.names)


def test_there_is_source_to_read():
    assert len(SOURCES) > 50
    assert sum(1 for _ in calls()) > 1000


def test_nothing_is_unpickled():
    codecs = ("pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")
    found = [(place, name) for place, name in imports() if name.split(".")[0] in codecs]
    assert [name for _, name in found if name != "pickle.UnpicklingError"] == []  # an exception to catch
    for place, function, call in calls():
        if function == "torch.load":
            safe = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert safe.get("weights_only") == "True", place


def test_no_text_is_run_as_code():
    assert [place for place, function, _ in calls() if function in ("eval", "exec", "compile", "__import__")] == []


def test_no_global_randomness():
    found = [(place, function) for place, function, _ in calls() if GLOBAL_RANDOMNESS.fullmatch(function)]
    assert found == []
    assert [place for place, name in imports() if name.split(".")[0] == "random"] == []


def test_the_law_of_randomness_can_be_broken():
    for broken in ("torch.manual_seed", "torch.cuda.manual_seed_all", "np.random.seed", "numpy.random.rand"):
        assert GLOBAL_RANDOMNESS.fullmatch(broken)
    for kept in ("np.random.default_rng", "torch.Generator().manual_seed", "generator.manual_seed", "torch.rand"):
        assert not GLOBAL_RANDOMNESS.fullmatch(kept)


def test_nothing_prints():
    assert [place for place, function, _ in calls() if function == "print"] == []


def written_in_place():
    """(file, call) for every write to a file at the place where a reader may look, or a full disk leaves half of it."""
    for place, function, call in calls():
        receiver, _, method = function.rpartition(".")
        given = [ast.unparse(each) for each in (*call.args[:2], *(each.value for each in call.keywords))]
        opened = method == "open" and any(re.fullmatch(r"'(r[bt]?\+|[wax])[bt+]*'", each) for each in given)
        if receiver != "temporary" and (opened or method in ("write_text", "write_bytes")):  # of `storage.replacing`
            yield place.partition(":")[0], ast.unparse(call)


def test_files_are_written_whole_or_not_at_all():
    assert sorted(written_in_place()) == [
        ("src/whorl/bench/work.py", "Path('/proc/self/clear_refs').write_text('5')"),
        ("src/whorl/cli/streams.py", "open(os.devnull, 'w', encoding='utf-8')"),
        ("src/whorl/lineups/commands.py", "log.open('r+b')"),  # what another program printed
        ("src/whorl/lineups/commands.py", "log.open('wb')"),
        ("src/whorl/storage.py", "path.open('ab', buffering=0)"),
        ("src/whorl/testing/readers.py", "path.write_bytes(content)"),
    ]


def test_torchvision_is_never_imported():
    assert [place for place, name in imports() if name.split(".")[0] == "torchvision"] == []
    for place, function, call in calls():
        if function.endswith("import_module"):
            assert "torchvision" not in ast.unparse(call), place


@pytest.mark.parametrize("name", SOURCES)
def test_a_file_holds_one_thing(name):
    assert len(SOURCES[name].read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize(
    ("catalog", "name"), [(catalog, name) for catalog in (SCHEMES, REMOVALS) for name in catalog], ids=str
)
def test_a_scheme_or_removal_is_one_short_file(catalog, name):
    made = sys.modules[catalog[name].__module__].__file__
    assert made is not None
    assert len(Path(made).read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("room", DOCUMENTED)
def test_what_is_public_says_what_it_is(room):
    silent = []
    for name, tree in TREES.items():
        if name.startswith(f"src/whorl/{room}/"):
            silent += [f"{name}:{node.lineno} {node.name}" for node in public(tree) if not ast.get_docstring(node)]
    assert silent == []


def public(scope):
    """Public classes and functions of a module, and public methods of public classes."""
    for node in scope.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


def test_import_waits_for_nothing_heavy():
    code = "import sys, whorl; print(*sorted({'torch', 'numpy', 'scipy', 'sklearn', 'pydantic'} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (ran.stdout, ran.stderr) == ("\n", "")


def test_verbs_wait_for_no_statistics_of_scipy():
    """It takes half a second, or more where the disk is slow, and few of them use it."""
    rooms = ("ownership", "several", "weights.several", "weights.family.tree", "bench.runner", "guards.table")
    code = f"import sys, {', '.join(f'whorl.{room}' for room in rooms)}; print('scipy.stats' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.stdout == "False\n", ran.stderr


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"])
def test_the_papers_of_a_project_are_there(name):
    assert len((ROOT / name).read_text(encoding="utf-8")) > 200


def test_no_tracked_file_names_a_path_of_somebodys_machine():
    machine = re.compile(rf"(?<![\w.])/({'|'.join(('work', 'tmp', 'root', 'home'))})/")
    assert machine.search("see " + "/".join(("", "home", "somebody")))
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    found = [path.name for path in files if path.is_file() and machine.search(path.read_text(errors="ignore"))]
    assert found == []


def test_every_test_file_has_a_name_of_its_own():
    """Without packages pytest takes two files of one name for one."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_editors_are_told_what_ruff_and_make_hold():
    told = configparser.ConfigParser()
    told.read_string("[top]\n" + (ROOT / ".editorconfig").read_text(encoding="utf-8"))
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert told["*.py"]["max_line_length"] == str(ruff["line-length"])
    assert (told["*.py"]["indent_size"], told["*"]["indent_style"]) == ("4", "space")  # what ruff formats to
    recipes = re.findall(r"^[ \t]+(?=\S)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {each[0] for each in recipes} == {{"tab": "\t", "space": " "}[told["Makefile"]["indent_style"]]}


@pytest.mark.parametrize("name", [name for name in whorl.__all__ if name.isupper()])
def test_public_catalogs_say_what_they_hold(name):
    """Ruff sees to it of classes and functions."""
    place = "src/" + whorl._FACE[name].partition(":")[0].replace(".", "/")
    body = next(TREES[path] for path in (f"{place}.py", f"{place}/__init__.py") if path in TREES).body
    (after,) = [after for each, after in pairwise(body) if re.match(rf"{name}\b.* = ", ast.unparse(each))]
    assert isinstance(after, ast.Expr)
    assert len(ast.literal_eval(after.value)) > 40
