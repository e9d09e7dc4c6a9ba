"""``whorl compare``: was one checkpoint made from the other?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from whorl.cli.console import bar, chatter, foreign, guarded, out, print_json, say
from whorl.cli.options import Json, Quiet, Wide, file_to_write
from whorl.cli.table import Column, Table, show
from whorl.errors import UsageError

__all__ = ["COLOURS", "UNTESTED", "FailOn", "compare", "exit_code"]

COLOURS = {"related": "bold red", "part reused": "bold red", "inconclusive": "bold yellow"}
WORDS = {
    "related": "one descends from the other, or both from a common ancestor",
    "part reused": "some layers go back to the other net, most of those read do not",
    "inconclusive": "nothing speaks against independent training",
}
PLACES = 64  # that are shown; the document has all
UNTESTED = "nothing could be tested: no part of the two nets admits a test"
RELATIONS = {
    ("descent", "A first"): "B was made from A",
    ("descent", "B first"): "A was made from B",
    ("common ancestor", "undetermined"): "neither was made from the other: both left a common ancestor",
}


class FailOn(StrEnum):
    """Decisions that may turn into an exit code."""

    related = "related"
    inconclusive = "inconclusive"
    untested = "untested"


@guarded
def compare(
    first: Annotated[Path, typer.Argument(help="A: a file or folder of weights (safetensors, .bin, GGUF, ONNX).")],
    second: Annotated[Path, typer.Argument(help="B: the same.")],
    alpha: Annotated[
        float, typer.Option(min=0, max=1, help="Accepted chance of calling independent nets related.")
    ] = 0.01,
    layers: Annotated[int, typer.Option(min=0, help="How many layers to read, evenly spread.")] = 4,
    all_layers: Annotated[bool, typer.Option("--all-layers", help="Read every layer.")] = False,
    base: Annotated[Path | None, typer.Option(help="The checkpoint that an adapter was made for.")] = None,
    parent: Annotated[
        list[Path] | None, typer.Option(help="A further net that B may be merged from, beside A. Repeatable.")
    ] = None,
    ancestor: Annotated[
        Path | None, typer.Option(help="The net that A, B and all parents were made from: compare changes since it.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write the comparison as an HTML page.", callback=file_to_write)
    ] = None,
    fail_on: Annotated[
        FailOn | None,
        typer.Option(
            help="Exit with 3 on related or part reused, with 4 on inconclusive; untested: only where no test applied."
        ),
    ] = None,
    wide: Wide = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read two checkpoints, tensor by tensor, and say whether they are related, where, and what happened in between.

    With further candidates (--parent) it also says of which shares B is made; --ancestor compares changes since it.

    Example: whorl compare our-model/ suspect.gguf --json
    """
    from whorl.checkpoints.opening import is_adapter, open_checkpoint
    from whorl.weights.comparison import compare as compared
    from whorl.weights.comparison import document
    from whorl.weights.family.mixtures import document as mixture_document
    from whorl.weights.family.mixtures import mixture
    from whorl.weights.family.products import ROWS

    named = [first, second, *(parent or []), *([ancestor] if ancestor else [])]
    adapters = [path for path in named if is_adapter(path)]
    if base is not None and not adapters:
        raise UsageError(f"neither {first} nor {second} is an adapter, so leave out --base")
    nets = {path: open_checkpoint(path, base=base if path in adapters else None) for path in named}
    with bar(quiet) as told_of:
        found = compared(nets[first], nets[second], alpha=alpha, layers=0 if all_layers else layers, progress=told_of)
        told = document(found)
        if parent or ancestor:
            start = nets[ancestor] if ancestor else None
            candidates = [
                nets[path] for path in (first, *(parent or [])) if ancestor is None or not _same(path, ancestor)
            ]
            mixed = mixture(nets[second], candidates, ancestor=start, rows=0 if all_layers else ROWS, progress=told_of)
            told["mixture"] = mixture_document(mixed)
    if as_json:
        print_json(told)
    else:
        _show(told, wide, quiet)
    if report is not None:  # after the result, which a page that can't be written must not cost
        from whorl.report.comparison import comparison_page
        from whorl.storage import write_whole

        write_whole(report, comparison_page(told, names=(str(first), str(second))))
        if not quiet:
            say(f"page: {report}")
    if (code := exit_code(fail_on, told)) is not None:
        raise typer.Exit(code)


def exit_code(fail_on: FailOn | None, told: Mapping[str, Any]) -> int | None:
    """What a document with a ``decision``, and whether anything was ``tested``, ends in; None for 0."""
    inconclusive = told["decision"] == "inconclusive"
    met = {"inconclusive" if inconclusive else "related"} | (
        {"untested"} if inconclusive and not told["tested"] else set()
    )
    return (4 if inconclusive else 3) if fail_on is not None and fail_on.value in met else None


def _same(one: Path, two: Path) -> bool:
    return one.resolve() == two.resolve()


def _show(told: dict[str, Any], wide: bool, quiet: bool) -> None:
    decision = told["decision"]
    words = WORDS[decision] if told["tested"] or decision != "inconclusive" else UNTESTED
    out.print(f"[{COLOURS[decision]}]{decision.upper()}[/]  {words}", highlight=False)
    kind = "exact" if told["exact"] else "not exact: rests on an approximation"
    number = f"p-value {_p(told)} ({kind})" if told["tested"] else "no p-value"
    out.print(f"{number}, alpha {told['alpha']:g}; {foreign(told['axes'])}", highlight=False)
    if told["tests"]:
        show(_tests(told["tests"]))
    if told["layers"]:
        shown, more = told["layers"][:PLACES], len(told["layers"]) - PLACES
        held = sum(each["related"] for each in told["layers"][PLACES:])
        rest = f"  and {more:,} others, {held:,} of them [red]●[/]" if more > 0 else ""
        out.print("layers: " + "  ".join(map(_place, shown)) + rest, highlight=False)
    if likeness := told["likeness"]:
        off = likeness["off_path"]
        beside = "" if off is None else f", {off:.2f} off the path"
        out.print(
            f"attention, turned onto each other: {likeness['aligned']:.2f} alike (1 is equal){beside}", highlight=False
        )
    for each in told["operations"]:
        out.print(f"{foreign(each['name'])}: {foreign(each['told'])}", highlight=False)
    if told["operations"]:
        words = RELATIONS.get((told["relation"], told["direction"]), "who came first cannot be told")
        point = "" if told["branch"] is None else f" (branch point {told['branch']:.2f}; 0 is A, 1 is B)"
        out.print(f"{_rests_on(told)}: {words}{point}", highlight=False)
    if "mixture" in told:
        _show_mixture(told["mixture"], wide, quiet)
    for side, each, small in zip("AB", told["coverage"], told["passed_over"], strict=True):
        out.print(f"{side}: {_coverage(each)}{_passed_over(small)}", highlight=False)
    out.print(f"{told['bytes_read'] / 1e6:,.1f} MB read in {told['seconds']:.1f} s", highlight=False)
    if not quiet:
        for caveat in told["caveats"]:
            chatter.print(f"[dim]·[/] {foreign(caveat)}", highlight=False)


def _rests_on(told: dict[str, Any]) -> str:
    """What is told of who came first rests on this."""
    if told["direction"] == "undetermined":
        return "estimate, without an error rate"
    from whorl.weights.parting import STUDIED

    lost = any(each["first"] != "undetermined" for each in told["operations"])
    return (
        "by what was lost or added" if lost else f"by movement, in a study wrong in {STUDIED.wrong} of {STUDIED.told}"
    )


def _show_mixture(told: dict[str, Any], wide: bool, quiet: bool) -> None:
    since = f"B's change since {told['ancestor']}" if told["ancestor"] else "B's distance from its nearest candidate"
    table = Table([Column("candidate"), Column("coefficient", right=True), Column("by chance", right=True)])
    for each in told["coefficients"]:
        table.add(each["name"], f"{each['value']:.3f}", f"± {each['null']:.2g}")
    show(table)
    out.print(f"these leave {told['unexplained']:.1%} of {foreign(since)} unexplained", highlight=False)
    if told["overlaps"]:
        ranks = {"cosine": 0, "by chance": 1, "equal signs": 2}
        figures = [Column(name, right=True, rank=rank) for name, rank in ranks.items()]
        table = Table([Column("changes of"), Column("and of"), *figures])
        for each in told["overlaps"]:
            chance = f"± {each['cosine_null']:.2g}"
            table.add(each["first"], each["second"], f"{each['cosine']:.3f}", chance, f"{each['equal_signs']:.1%}")
        show(table, wide=wide, quiet=quiet)
    if not quiet:
        for caveat in told["caveats"]:
            chatter.print(f"[dim]·[/] {foreign(caveat)}", highlight=False)


def _tests(tests: list[dict[str, Any]]) -> Table:
    table = Table([Column("test"), Column("p-value", right=True), Column("exact"), Column("result", prose=True)])
    for each in tests:
        exact = "yes" if each["exact"] else "no" if each["decides"] else "no, not counted"
        table.add(each["name"], _p(each), exact, each["result"])
    return table


def _place(each: dict[str, Any]) -> str:
    name = each["name"] or ("embedding" if each["layer"] < 0 else str(each["layer"]))
    other = "" if each["paired"] == each["layer"] else f"→{each['paired']}"
    return f"{foreign(name)}{other} {'[red]●[/]' if each['related'] else '○'}"


def _coverage(each: dict[str, Any]) -> str:
    rest = "; ".join(f"{share:.1%} {reason}" for reason, share in each["left_out"].items())
    whole = f"of {each['numbers']:,} numbers {each['read']:.1%} read, {each['tested']:.1%} tested"
    return f"{whole}; left out: {rest}" if rest else whole


def _passed_over(small: Sequence[str]) -> str:
    names = foreign(", ".join(map(repr, small)))
    return f"; its nets {names} were not compared, for others in it are larger" if small else ""


def _p(each: dict[str, Any]) -> str:
    return f"{each['p_value']:.3f}" if each["log10_p"] > -3 else f"1e{each['log10_p']:.0f}"
