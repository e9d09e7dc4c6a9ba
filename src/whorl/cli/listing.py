"""``whorl schemes`` and ``whorl removals``: what there is, and what it needs."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from whorl.cli.console import guarded, out, print_json
from whorl.cli.options import Json

__all__ = ["removals", "schemes"]

Level = Annotated[str | None, typer.Option(help="Only those that this access allows, as in labels or gradients.")]


@guarded
def schemes(victim_access: Level = None, suspect_access: Level = None, as_json: Json = False) -> None:
    """List the fingerprinting schemes: access that each side needs, parameters, paper."""
    from whorl.schemes import SCHEMES

    rows: list[dict[str, Any]] = []
    for name in SCHEMES:
        scheme: Any = SCHEMES[name]
        if _allows(victim_access, scheme.needs_victim) and _allows(suspect_access, scheme.needs_suspect):
            rows.append(
                {
                    "name": name,
                    "victim": scheme.needs_victim.name,
                    "suspect": scheme.needs_suspect.name,
                    "parameters": {key: _shown(value) for key, value in SCHEMES.parameters(name).items()},
                    "paper": scheme.paper,
                }
            )
    _print(rows, as_json)


@guarded
def removals(as_json: Json = False) -> None:
    """List the removal attacks: family, access that the thief needs, parameters."""
    from whorl.removals import REMOVALS

    rows: list[dict[str, Any]] = []
    for name in REMOVALS:
        removal: Any = REMOVALS[name]
        parameters = {key: _shown(value) for key, value in REMOVALS.parameters(name).items()}
        rows.append({"name": name, "family": removal.family, "needs": removal.needs.name, "parameters": parameters})
    _print(rows, as_json)


def _allows(given: str | None, needed: Any) -> bool:
    from whorl.errors import UsageError
    from whorl.types import Access

    if given is None:
        return True
    if given.upper() not in Access.__members__:
        raise UsageError(f"no such access: {given!r}. Levels: {', '.join(Access.__members__).lower()}")
    return Access[given.upper()] >= needed


def _shown(value: Any) -> Any:
    return "required" if value is ... else str(value)


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    table = Table(box=None, pad_edge=False)
    for key in rows[0] if rows else ():
        table.add_column(key, overflow="fold")
    for row in rows:
        cells = [
            ", ".join(f"{key}={each}" for key, each in value.items()) if isinstance(value, dict) else str(value)
            for value in row.values()
        ]
        table.add_row(*cells)
    out.print(table, highlight=False)
