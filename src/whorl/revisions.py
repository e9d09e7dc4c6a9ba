"""Which revision of which code makes a thing, so that results of older code are not taken for those of this code.

A digest of a recipe or an expression says what was asked for. What came of it depends on the code as well, so keys of
what is kept hold both. `revisions.json` declares, for every module that can change a result, a revision and the hash
of its syntax tree as it was when that was declared. A module whose tree is the declared one has the declared revision.
One that was changed since has its tree for a revision, until somebody says whether results moved:
``python -m whorl.testing.revisions --same MODULE`` keeps the revision, ``--bump MODULE`` raises it.

What a thing is made by is the closure of the imports that stand in the source, those inside functions included and
those for types alone left out. Catalogues are looked up by name and import nothing, so a scheme doesn't depend on the
others; the files that only say what a room holds are followed and don't count themselves. Modules at their first
revision count for nothing: a module that is split in two keeps its results.

A plug-in declares nothing. Its revision is the tree of its module, those of the modules of its own package that it
imports (of its own folder, where no distribution installed it), the version of its distribution, and the attribute
``revision`` of its class where it has one (for what the source doesn't show, such as weights that it downloads).
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any, Final

from whorl.errors import InvalidFile

__all__ = [
    "FIRST",
    "MAKERS",
    "TABLE",
    "changed_since",
    "closure",
    "declared",
    "digest_of",
    "modules",
    "revision",
    "revisions_of",
    "tree",
]

OURS: Final = "whorl"
ROOT: Final = Path(__file__).parent
TABLE: Final = ROOT / "revisions.json"
FIRST: Final = "1"

MAKERS: Final = (
    *("data", "nets", "oracles", "queries", "representations", "schemes", "removals", "detection", "metrics"),
    *("marks", "zoo", "weights", "checkpoints", "symmetry", "lineups", "inspection"),
    *("bench.work", "bench.lineups", "bench.marks", "bench.grid", "bench.quality"),
    *("types", "grades", "storage", "spaces", "layouts", "fingerprints", "attest.draw"),
)
"""Rooms and modules that can change a result. What a suite consists of is in the keys themselves, by its recipes."""


def revisions_of(targets: Iterable[str]) -> dict[str, str]:
    """Module to revision, for all that make these targets and are past their first revision.

    Parameters:
        targets: as in catalogues, ``"module:attribute"`` or ``"module"``.
    """
    wanted = sorted(set(targets))
    makers = closure(target.partition(":")[0] for target in wanted)
    found = {name: revision(name) for name in makers if not _is_list(name)}
    for target in wanted:
        module, _, attribute = target.partition(":")
        if attribute and not _is_ours(module):
            own = getattr(getattr(importlib.import_module(module), attribute), "revision", None)
            found[module] += "" if own is None else f", revision {own}"
    return {name: text for name, text in sorted(found.items()) if text != FIRST}


def digest_of(targets: Iterable[str]) -> str:
    """Content hash of `revisions_of`, 12 hexadecimal digits."""
    return _digest_of(frozenset(targets))


@cache
def _digest_of(targets: frozenset[str]) -> str:
    return hashlib.sha256(json.dumps(revisions_of(targets), sort_keys=True).encode()).hexdigest()[:12]


def changed_since(recorded: Mapping[str, str] | None, targets: Iterable[str]) -> str:
    """How the code of these targets differs from what made a result, in words; empty where it does not.

    Parameters:
        recorded: `revisions_of` as it was then; None where the result does not say.
    """
    if recorded is None:
        return "revision unknown"
    now = revisions_of(targets)
    makers = closure(target.partition(":")[0] for target in targets)
    moved = [
        f"{name}: {then}, now {here}"
        for name in sorted(makers)
        if (then := recorded.get(name, FIRST)) != (here := now.get(name, FIRST)) and then != f"tree {tree(name)}"
    ]
    return "; ".join(moved)


def closure(modules: Iterable[str]) -> set[str]:
    """These modules and all that they import, of whorl's that make results and of their own package."""
    found: set[str] = set()
    left = list(modules)
    while left:
        module = left.pop()
        if module not in found:
            found.add(module)
            left += _imports(module) - found
    return found


@cache
def revision(module: str) -> str:
    """The declared revision as text; for code that was not declared as it is, ``tree`` and its hash."""
    entry = declared().get(module)
    now = tree(module)
    if entry is not None and entry["tree"] == now:
        return str(entry["revision"])
    return f"tree {now}" if _is_ours(module) else f"tree {now}{_distribution(module)}"


@cache
def declared() -> Mapping[str, Mapping[str, Any]]:
    """The table: module to ``revision`` and ``tree``. Raises `InvalidFile` where it cannot be read."""
    try:
        return json.loads(TABLE.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # as in the middle of a merge
        raise InvalidFile(f"{TABLE} is not a sound table. Type: python -m whorl.testing.revisions --same all") from None


def modules() -> Iterator[str]:
    """Every module of whorl's that the table has to declare."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join((OURS, *parts)).removesuffix(".__init__")
        if _makes_results(name) and not _is_list(name):
            yield name


@cache
def tree(module: str) -> str:
    """Hash of the syntax tree, 16 hexadecimal digits; comments, docstrings and layout are not in it.

    A compiled module has the hash of its file; one without any file, as in a notebook, an empty text.
    """
    path = _file(module)
    if path is None:
        return ""
    if path.suffix != ".py":
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    text: list[str] = []
    _spell(_parsed(path), text)
    return hashlib.sha256("\n".join(text).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _spell(node: object, text: list[str]) -> None:
    """Write a tree out in a way that releases of Python share: empty fields of newer ones are left out."""
    if isinstance(node, list):
        text.append("[")
        for each in node:
            if not _says_nothing(each):
                _spell(each, text)
        text.append("]")
    elif isinstance(node, ast.AST):
        text.append(type(node).__name__)
        for name in node._fields:
            value = getattr(node, name, None)
            if name not in ("ctx", "kind", "type_comment") and value is not None and value != []:
                text.append(name)
                _spell(value, text)
        text.append(".")
    else:
        text.append(repr(node))


def _says_nothing(node: object) -> bool:
    """Whether it is text that stands for itself: a docstring, of a module, a class, a function or a field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))


@cache
def _imports(module: str) -> frozenset[str]:
    path = _file(module)
    if path is None or path.suffix != ".py":
        return frozenset()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    body: list[ast.stmt] = [*_parsed(path).body]
    if _is_list(module):  # what its functions import is looked up by name
        body = [each for each in body if isinstance(each, (ast.Import, ast.ImportFrom))]
    _gather(ast.Module(body, []), package, found)
    own = module.partition(".")[0]
    known = (name for name in found if name != module)
    return frozenset(n for n in known if _makes_results(n) or _is_of(n, own) or _is_beside(n, own))


def _gather(node: ast.AST, package: str, found: set[str]) -> None:
    """The modules that the imports below a node name."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                _gather(ast.Module([other], []), package, found)
        elif isinstance(child, ast.Import):
            found.update(alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                above = package.split(".")[: len(package.split(".")) - child.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in child.names:
                found.update(_resolved(base, alias.name))
        else:
            _gather(child, package, found)


def _resolved(base: str, name: str) -> tuple[str, ...]:
    """What ``from base import name`` may read: a module below, or the base itself."""
    below = f"{base}.{name}"
    if _is_ours(base):
        return (below,) if _file(below) is not None else (base,)
    return base, below  # which of them there are is only asked of a plug-in's own


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == OURS


def _is_list(module: str) -> bool:
    """Whether it only says what a room of whorl's holds, so that a new scheme doesn't touch the old ones."""
    path = _file(module)
    return _is_ours(module) and path is not None and path.name == "__init__.py"


def _is_of(name: str, own: str) -> bool:
    """Whether a module is of a plug-in's own package."""
    return own != OURS and name.partition(".")[0] == own and _file(name) is not None


def _is_beside(name: str, own: str) -> bool:
    """Whether a module lies in the folder of somebody's own one, and no distribution installed that."""
    places = [_file(each) for each in (name, name.partition(".")[0], own)]
    if own == OURS or None in places or _distribution(own):
        return False
    _, one, two = (path.parent.parent if path.name == "__init__.py" else path.parent for path in places if path)
    return one == two


def _makes_results(module: str) -> bool:
    return any(f"{module}.".startswith(f"{OURS}.{maker}.") for maker in MAKERS)


@cache
def _file(module: str) -> Path | None:
    """Where the source lies; None for no such module. Those of whorl are found without importing anything."""
    if _is_ours(module):
        place = ROOT.joinpath(*module.split(".")[1:])
        candidates = (place / "__init__.py", place.with_suffix(".py"))
        return next((path for path in candidates if path.is_file()), None)
    known = getattr(sys.modules.get(module), "__file__", None)
    if known is None:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError, AttributeError):
            return None
        known = spec.origin if spec is not None and spec.has_location else None
    return Path(known) if known else None


@cache
def _distribution(module: str) -> str:
    names = packages_distributions().get(module.partition(".")[0], [])
    return "".join(f", {name} {version(name)}" for name in sorted(set(names)))
