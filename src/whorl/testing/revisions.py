"""``python -m whorl.testing.revisions``: declare whether a change of code moved results; see `whorl.revisions`.

Without options it lists the modules that are not as they were declared. ``--same MODULE...`` says that a change moved
no result (a refactoring, a clearer name), ``--bump MODULE...`` that it did; ``all`` stands for every such module. A new
module begins with revision 1 either way, and one that is gone leaves the table. A table with the marks of a merge is
read as well, with the higher revision of each module.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from whorl.errors import UsageError, WhorlError
from whorl.revisions import TABLE, modules, tree
from whorl.storage import write_whole

__all__ = ["declared", "main", "moved", "updated"]

ALL = "all"


def declared() -> dict[str, dict[str, Any]]:
    """The table as it lies there, line by line."""
    table: dict[str, dict[str, Any]] = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines() if TABLE.is_file() else ():
        if line.startswith('"'):
            ((name, entry),) = json.loads(f"{{{line.removesuffix(',')}}}").items()
            if entry["revision"] >= table.get(name, {"revision": 0})["revision"]:
                table[name] = entry
    return table


def moved() -> list[str]:
    """The modules that are not as they were declared: new, changed or gone."""
    there, table = set(modules()), declared()
    return sorted(
        name for name in there | table.keys() if name not in there or table.get(name, {}).get("tree") != tree(name)
    )


def updated(same: Sequence[str], bump: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The table after these declarations. Raises `UsageError` for a module that is as it was declared."""
    changed = moved()
    for name in {*same, *bump} - {ALL, *changed}:
        raise UsageError(f"{name} is as it was declared. Those that changed: {', '.join(changed) or 'none'}")
    kept, raised = (set(changed) if ALL in names else set(names) for names in (same, bump))
    there, table = set(modules()), {name: dict(entry) for name, entry in declared().items()}
    for name in (kept | raised) - there:
        del table[name]
    for name in (kept | raised) & there:
        old = table.get(name, {}).get("revision", 0)
        table[name] = {"revision": max(1, old + (name in raised)), "tree": tree(name)}
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what moved, or write the table."""
    parser = argparse.ArgumentParser(prog="python -m whorl.testing.revisions", description=(__doc__ or "").strip())
    for option, words in (("--same", "their change moved no result"), ("--bump", "their change moved results")):
        parser.add_argument(option, nargs="+", metavar="MODULE", default=[], help=f"{words}; all for every one")
    given = parser.parse_args(arguments)
    if not given.same and not given.bump:
        sys.stdout.write("".join(f"{name}\n" for name in moved()))
        return
    try:
        write(updated(given.same, given.bump))
    except WhorlError as error:
        sys.exit(str(error))


def write(table: Mapping[str, Mapping[str, Any]]) -> None:
    """Save the table, one module a line, so that two changes meet in a line only where they meet in a module."""
    lines = [f"{json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table)]
    write_whole(TABLE, "{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
