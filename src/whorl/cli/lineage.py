"""``whorl lineage``: the family tree of a folder of checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from whorl.cli.console import bar, chatter, foreign, guarded, out, print_json, say
from whorl.cli.options import Cache, Json, Quiet, files_to_write
from whorl.cli.table import Whole
from whorl.errors import UsageError

if TYPE_CHECKING:
    from rich.tree import Tree

    from whorl.weights.family.planting import Edge, Family
    from whorl.weights.family.tree import Lineage

__all__ = ["lineage"]

SUFFIXES: Final = (".svg", ".html", ".json", ".graphml", ".cdx.json")


@guarded
def lineage(
    folder: Annotated[Path, typer.Argument(help="A folder of checkpoints, each a file or a folder of its own.")],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help=f"Also write it here, by suffix: {', '.join(SUFFIXES)}. Repeatable.",
            callback=files_to_write,
        ),
    ] = None,
    alpha: Annotated[
        float, typer.Option(min=0, max=1, help="Accepted chance that any independent nets are called related.")
    ] = 0.01,
    layers: Annotated[int, typer.Option(min=1, help="How many layers to read, evenly spread.")] = 4,
    all_layers: Annotated[bool, typer.Option("--all-layers", help="Read every layer.")] = False,
    cache: Cache = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare all checkpoints of a folder and draw who was made from whom, as far as weights tell.

    Pairs that were compared before are not compared again.

    Example: whorl lineage checkpoints/ -o tree.svg
    """
    for path in output or []:
        if not path.name.endswith(SUFFIXES):
            raise UsageError(f"{path} has none of the suffixes {', '.join(SUFFIXES)}")
    from whorl.engine.store import Store
    from whorl.weights.family.tree import CAVEATS, document
    from whorl.weights.family.tree import lineage as traced
    from whorl.zoo.cache import default_cache

    cells = Store((cache or default_cache()) / "lineage.sqlite")
    try:
        with bar(quiet) as show:
            found = traced(folder, alpha=alpha, layers=0 if all_layers else layers, cells=cells, progress=show)
    finally:
        cells.close()
    for path in output or []:
        _write(found, path)
    if as_json:
        print_json(document(found))
    else:
        _show(found)
    if not quiet:
        for name, why in found.skipped.items():
            say(f"not read: {name}: {why}")
        for caveat in CAVEATS:
            chatter.print(f"[dim]·[/] {foreign(caveat)}", highlight=False)


def _write(found: Lineage, path: Path) -> None:
    from whorl.report.tree import tree_page, tree_picture
    from whorl.storage import replacing
    from whorl.weights.family.exports import cyclonedx, graphml
    from whorl.weights.family.tree import document

    if path.name.endswith(".cdx.json"):
        text = json.dumps(cyclonedx(found), indent=2) + "\n"
    elif path.suffix == ".json":
        text = json.dumps(document(found), indent=2) + "\n"
    else:
        text = str({".svg": tree_picture, ".html": tree_page, ".graphml": graphml}[path.suffix](found))
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _show(found: Lineage) -> None:
    from rich.tree import Tree

    copies = {member.name: member.copies for member in found.members}
    for family in found.families:
        branches: dict[str, Tree] = {}
        for name in sorted(set(family.members) - {edge.child for edge in family.edges}):
            branches[name] = Tree(_name(name, copies))
            _grow(branches, name, family, copies)
            out.print(Whole(branches[name]), highlight=False)
        for root in family.roots:
            if len(root.possible) > 1:
                out.print(f"[dim]root {foreign(root.name)}: {root.why} ({foreign(', '.join(root.possible))})[/]")
    for one, two in found.parts:
        out.print(f"share a part: {one}, {two}", markup=False, highlight=False)
    told = f"{len(found.members)} nets, {found.pairs} pairs ({found.compared} compared now), alpha {found.alpha:g}"
    told += f"; {len(found.untested)} pairs could not be tested" if found.untested else ""
    out.print(told + (f"; {len(found.skipped)} not read" if found.skipped else ""), highlight=False)


def _grow(branches: dict[str, Tree], name: str, family: Family, copies: dict[str, tuple[str, ...]]) -> None:
    """What hangs below a net; a merge with several parents is written out below the first of them."""
    for edge in sorted((e for e in family.edges if e.parent == name), key=lambda e: (e.distance, e.child)):
        again = edge.child in branches
        branch = branches[name].add(f"{_name(edge.child, copies)}  {_step(edge)}{' (see above)' if again else ''}")
        if not again:
            branches[edge.child] = branch
            _grow(branches, edge.child, family, copies)


def _name(name: str, copies: dict[str, tuple[str, ...]]) -> str:
    same = f" [dim]= {foreign(', '.join(copies[name]))}[/]" if copies[name] else ""
    return f"[bold]{foreign(name)}[/]{same}"


def _step(edge: Edge) -> str:
    share = "" if edge.share is None else f"{edge.share:.0%} of a merge, "
    if edge.ancestor is not None:
        since = foreign(edge.ancestor)
        share = f"{edge.share:.0%} of its change since {since} merged, {edge.unexplained:.0%} unexplained, "
    happened = foreign(", ".join(each.partition(":")[0] for each in edge.evidence if not each.startswith("branch")))
    mark = "" if edge.directed else " [yellow](direction undetermined)[/]"
    return f"[dim]{share}distance {edge.distance:.3f}[/] {happened}{mark}"
