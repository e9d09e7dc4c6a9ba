"""``whorl lineage``: the family tree of a folder of checkpoints, or the likely parents of one suspect in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from whorl.cli.compare import COLOURS, UNTESTED, FailOn, exit_code
from whorl.cli.console import bar, chatter, foreign, guarded, line, out, print_json, say
from whorl.cli.options import Cache, Json, Quiet, Wide, files_to_write
from whorl.cli.table import Column, Table, Whole, show
from whorl.errors import UsageError
from whorl.printable import counted

if TYPE_CHECKING:
    from rich.tree import Tree

    from whorl.weights.family.gathering import Member
    from whorl.weights.family.parents import Candidate, Parentage
    from whorl.weights.family.planting import Edge, Family
    from whorl.weights.family.tree import Lineage

__all__ = ["lineage"]

SUFFIXES: Final = (".svg", ".html", ".json", ".graphml", ".cdx.json")
OF_SUSPECT: Final = (".html", ".json")
WORDS: Final = {
    "related": "made from a net of this folder, or both from a common ancestor",
    "part reused": "some layers go back to a net of this folder, most of those read do not",
    "inconclusive": "nothing speaks against training that owes this folder nothing",
}
ONE_OF: Final = "one net, of which any file may be the first"
NAMED: Final = 5  # files that were not read, where one line has to do
FIRST: Final = {"candidate": "the candidate", "suspect": "the suspect", "undetermined": "not told"}


@guarded
def lineage(
    folder: Annotated[Path, typer.Argument(help="A folder of checkpoints, each a file or a folder of its own.")],
    suspect: Annotated[
        Path | None, typer.Option(help="One net: rank the nets of the folder as its parents, and draw no tree.")
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help=f"Also write it here, by suffix: {', '.join(SUFFIXES)}; of a suspect {', '.join(OF_SUSPECT)}. "
            "Repeatable.",
            callback=files_to_write,
        ),
    ] = None,
    alpha: Annotated[
        float, typer.Option(min=0, max=1, help="Accepted chance that any independent nets are called related.")
    ] = 0.01,
    layers: Annotated[int, typer.Option(min=1, help="How many layers to read, evenly spread.")] = 4,
    all_layers: Annotated[bool, typer.Option("--all-layers", help="Read every layer.")] = False,
    fail_on: Annotated[
        FailOn | None,
        typer.Option(
            help="Of a suspect: exit with 3 on related or part reused, with 4 on inconclusive; untested: only where no "
            "test applied."
        ),
    ] = None,
    cache: Cache = None,
    wide: Wide = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw who was made from whom in a folder of checkpoints, or rank its nets as the parents of one suspect.

    Sketches choose the pairs that are compared; those that were compared before are not compared again.

    Example: whorl lineage checkpoints/ -o tree.svg
    """
    _check(output or [], suspect, fail_on)
    from whorl.engine.store import Store
    from whorl.weights.family.parents import parents
    from whorl.weights.family.tree import lineage as traced
    from whorl.zoo.cache import default_cache

    found: Parentage | Lineage
    cells = Store((cache or default_cache()) / "lineage.sqlite")
    try:
        with bar(quiet) as told_of:
            depth = 0 if all_layers else layers
            if suspect is not None:
                found = parents(suspect, folder, alpha=alpha, layers=depth, cells=cells, progress=told_of)
            else:
                found = traced(folder, alpha=alpha, layers=depth, cells=cells, progress=told_of)
    finally:
        cells.close()
    for path in output or []:
        _write(found, path)
    if as_json:
        print_json(_document(found))
    else:
        _show(found, wide=wide, quiet=quiet)
    if not quiet:
        _chat(found)
    elif found.skipped:
        say(_skipped(found.skipped))
    code = None if suspect is None else exit_code(fail_on, _document(found))
    if code is not None:
        raise typer.Exit(code)


def _check(output: Sequence[Path], suspect: Path | None, fail_on: FailOn | None) -> None:
    suffixes = SUFFIXES if suspect is None else OF_SUSPECT
    for path in output:
        if not path.name.endswith(suffixes) or (suspect is not None and path.name.endswith(".cdx.json")):
            raise UsageError(f"{path} has none of the suffixes {', '.join(suffixes)}")
    if fail_on is not None and suspect is None:
        raise UsageError("--fail-on asks about one net: name it with --suspect FILE")


def _document(found: Parentage | Lineage) -> dict[str, Any]:
    from whorl.weights.family.parents import Parentage
    from whorl.weights.family.parents import document as of_parents
    from whorl.weights.family.tree import document as of_tree

    return of_parents(found) if isinstance(found, Parentage) else of_tree(found)


def _write(found: Parentage | Lineage, path: Path) -> None:
    from whorl.report.parents import parents_page
    from whorl.report.tree import tree_page, tree_picture
    from whorl.storage import write_whole
    from whorl.weights.family.exports import cyclonedx, graphml
    from whorl.weights.family.parents import Parentage

    if path.name.endswith(".cdx.json") and not isinstance(found, Parentage):
        text = json.dumps(cyclonedx(found), indent=2) + "\n"
    elif path.suffix == ".json":
        text = json.dumps(_document(found), indent=2) + "\n"
    elif isinstance(found, Parentage):
        text = parents_page(found)
    else:
        text = str({".svg": tree_picture, ".html": tree_page, ".graphml": graphml}[path.suffix](found))
    write_whole(path, text)


def _chat(found: Parentage | Lineage) -> None:
    for name, why in found.skipped.items():
        say(f"not read: {name}: {why}")
    for name, why in found.failed.items():
        say(f"not compared: {name}: {why}")
    for caveat in _document(found)["caveats"]:
        chatter.print(f"[dim]·[/] {foreign(caveat)}", highlight=False)


def _skipped(skipped: Mapping[str, str]) -> str:
    """Files that were not read and why, without what to do, on one line; of many the first."""
    told = "; ".join(f"{name}: {why.partition('; ')[0]}" for name, why in [*skipped.items()][:NAMED])
    more = f"; and {len(skipped) - NAMED:,} others" if len(skipped) > NAMED else ""
    return f"not read: {told}{more}"


def _show(found: Parentage | Lineage, *, wide: bool, quiet: bool) -> None:
    from whorl.weights.family.parents import Parentage

    if isinstance(found, Parentage):
        _show_parents(found, wide=wide, quiet=quiet)
    else:
        _show_trees(found)
    line(f"read: {_architectures(found.members)}")


def _architectures(members: Sequence[Member]) -> str:
    counted = Counter(member.architecture for member in members).most_common()
    return ", ".join(f"{count:,} as {name}" for name, count in counted)


def _left_out(found: Parentage | Lineage) -> str:
    told = f"; {len(found.skipped)} not read" if found.skipped else ""
    return told + (f"; {len(found.failed)} failed" if found.failed else "")


def _show_parents(found: Parentage, *, wide: bool, quiet: bool) -> None:
    words = WORDS[found.decision] if found.tested or found.decision != "inconclusive" else UNTESTED
    out.print(f"[{COLOURS[found.decision]}]{found.decision.upper()}[/]  {words}", highlight=False)
    columns = [Column("candidate"), Column("decision"), Column("p-value", right=True), Column("distance", right=True)]
    table = Table([*columns, Column("came first"), Column("what happened", prose=True, rank=1)])
    for each in found.candidates:
        figures = _p_value(each), f"{each.distance:.3f}"
        table.add(each.name, each.decision, *figures, _came_first(each), _happened(each.evidence))
    if found.candidates:
        show(table, wide=wide, quiet=quiet)
    if shares := [f"{each.share:.0%} {each.name}" for each in found.candidates if each.share is not None]:
        since = next((f" of its change since {each.ancestor}" for each in found.candidates if each.ancestor), "")
        line(f"a merge{since}: {', '.join(shares)}")
    if found.inside:
        line(f"the suspect lies in the folder, as {found.inside}; it was compared with the others")
    told = f"{counted(len(found.members), 'net')}, {len(found.candidates)} compared in full ({found.compared} now)"
    line(f"{told}, alpha {found.alpha:g} for all nets together{_left_out(found)}")


def _p_value(each: Candidate) -> str:
    if not each.tested:
        return "not tested"
    power = each.log_p / 2.302585092994046
    return f"{10**power:.3f}" if power > -3 else f"1e{power:.0f}"


def _came_first(each: Candidate) -> str:
    return FIRST[each.first] + (", estimated" if each.estimated and each.first != "undetermined" else "")


def _show_trees(found: Lineage) -> None:
    from rich.tree import Tree

    copies = {member.name: member.copies for member in found.members}
    for family in found.families:
        branches: dict[str, Tree] = {}
        for name in sorted(set(family.members) - {edge.child for edge in family.edges}):
            branches[name] = Tree(_name(name, copies))
            _grow(branches, name, family, copies)
            out.print(Whole(branches[name]), highlight=False)
        for root in family.roots if family.edges else ():
            named = f"root {ONE_OF}" if root.copies else "no root is told"
            named = f"root {root.name}" if root.name is not None else named
            others = f" ({', '.join(root.possible)})" if root.name is None else ""
            out.print(f"[dim]{foreign(f'{named}: {root.why}{others}')}[/]", highlight=False)
    for one, two in found.parts:
        out.print(f"share a part: {one}, {two}", markup=False, highlight=False)
    if len(found.members) == 1:
        line(f"one net{_left_out(found)}: lay others beside it, or name it with --suspect beside a folder of others")
        return
    left = found.pairs - found.tested - len(found.untested)
    sizes = f"{counted(len(found.members), 'net')}, {counted(found.pairs, 'pair')}"
    told = f"{sizes}: {found.tested} compared in full ({found.compared} now)"
    told += f", {left} not, by their sketches" if left else ""
    told += f", {len(found.untested)} that could not be tested" if found.untested else ""
    line(f"{told}; alpha {found.alpha:g} for all pairs together{_left_out(found)}")


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
    mark = " [dim](direction estimated)[/]" if edge.estimated else ""
    mark = mark if edge.directed else " [yellow](direction undetermined)[/]"
    return f"[dim]{share}distance {edge.distance:.3f}[/] {foreign(_happened(edge.evidence))}{mark}"


def _happened(evidence: Sequence[str]) -> str:
    return ", ".join(each.partition(":")[0] for each in evidence if not each.startswith("branch"))
