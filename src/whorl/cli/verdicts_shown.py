"""How verdicts are told on a terminal: the figures on stdout, what they do not say on stderr."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.text import Text

from whorl.cli.console import chatter, out, say
from whorl.cli.table import Column, Table, show
from whorl.printable import counted

__all__ = ["show_verdict", "show_verdicts"]

COLOURS = {"derived": "bold red", "unrelated": "bold green", "inconclusive": "bold yellow"}


def show_verdicts(document: dict[str, Any], wide: bool, quiet: bool) -> None:
    """Several verdicts, one to a row, and the one that holds for all."""
    decision, alpha = document["decision"], document["alpha"]
    out.print(
        f"[{COLOURS[decision]}]{decision.upper()}[/]  p-value {_chance(document['p_value'])}, "
        f"alpha {alpha:g}, error bound {_chance(document['error_bound'])}",
        highlight=False,
    )
    over = document["over"]
    ranks = {"similarity": 1, "p-value": 0, "adjusted": 0, "null": 2, "queries": 2, "replayed": 3}
    figures = [Column(name, right=True, rank=rank) for name, rank in ranks.items()]
    table = Table([Column("suspect" if over == "suspects" else "scheme"), Column("verdict"), *figures])
    for verdict, adjusted in zip(document["verdicts"], document["adjusted"], strict=True):
        lineup = verdict["lineup"]
        table.add(
            verdict["suspect"] if over == "suspects" else verdict["scheme"].partition("(")[0],
            verdict["decision"],
            _rank(lineup) if lineup else f"{verdict['similarity']:.3f}",
            _chance(verdict["p_value"]),
            _chance(adjusted),
            str(verdict["null"]["size"]),
            f"{verdict['queries']['spent']} of {verdict['queries']['budget']}",
            str(verdict["queries"]["replayed"]),
        )
    for name in document["refused"]:
        table.add(name, "not judged", *("-" for _ in figures))
    show(table, wide=wide, quiet=quiet)
    for name, reason in document["refused"].items():
        say(f"not judged: {name}: {reason}")
    _caveats(document, quiet)


def _rank(lineup: dict[str, Any]) -> str:
    return "sealed" if lineup["rank"] is None else f"{lineup['rank']} of {lineup['candidates']}"


def _caveats(document: dict[str, Any], quiet: bool) -> None:
    if not quiet:
        for caveat in document["caveats"]:
            chatter.print(f"[dim]·[/] {escape(caveat)}", highlight=False)


def show_verdict(document: dict[str, Any], quiet: bool) -> None:
    """One verdict, fact by fact."""
    decision = document["decision"]
    table = Table([Column("fact"), Column("value", prose=True)], header=False)
    queries, null = document["queries"], document["null"]
    lineup = document["lineup"]
    table.add("verdict", Text(decision.upper(), style=COLOURS[decision]))
    if lineup:
        table.add("lineup", _lined_up(lineup))
    else:
        table.add("similarity", f"{document['similarity']:.3f}")
    p, floor, bound = (_chance(document[key]) for key in ("p_value", "p_value_floor", "error_bound"))
    table.add("p-value", f"{p}  (floor {floor}, alpha {document['alpha']:g})")
    table.add("error bound", bound)
    if design := null.get("design"):
        word = "; the draw is the owner's word" if document["grade"] == "D" else ""
        table.add("mark", f"{_drawn(design)}; grade {document['grade']}{word}")
    if likeness := document["likeness"]:
        table.add("suspect", _standing(likeness))
    if document["interface"]:
        table.add("interface", document["interface"])
    if len(null["groups"]) > 1:
        for group in null["groups"]:
            table.add(
                "group", f"{group['name'] or 'unnamed'}: {counted(group['size'], 'model')}, p {group['p_value']:.4f}"
            )
    if null["quantiles"]:
        spread = ", ".join(f"{name} {value:.3f}" for name, value in null["quantiles"].items())
        table.add("null", f"{counted(null['size'], 'model')}: {spread}")
    for name, told in _asked(queries).items():
        table.add(name, told)
    for removal, power in document["power"].items():
        bounds = f"[{power['low']:.2f}, {power['high']:.2f}]"
        missed = f", misses at most {power['missed_at_most']:.2f}" if decision == "unrelated" else ""
        table.add("power", f"{removal}: {power['caught']} of {power['copies']} {bounds}{missed}")
    show(table)
    _caveats(document, quiet)


def _asked(queries: dict[str, Any]) -> dict[str, str]:
    """How much was asked, and how much of it was replayed."""
    early = ", stopped early" if queries["stopped_early"] else ""
    beside = f"; {queries['probes']} neutral probes beside them" if queries["probes"] else ""
    if queries["sentinels"] and not queries["replayed"]:
        beside += f"; {queries['sentinels']} asked again at the end"
    told = {"queries": f"{queries['spent']} of {queries['budget']}{early}{beside}"}
    if queries["replayed"]:
        again = f", {queries['sentinels']} asked again" if queries["sentinels"] else ""
        told["replayed"] = f"{counted(queries['replayed'], 'answer')}, the oldest of {queries['oldest']}{again}"
    return told


def _drawn(design: dict[str, Any]) -> str:
    """How many of the drawn labels or bits match."""
    return f"{design['matches']} of {design['of']} drawn {design['kind']}, one of {design['choices']} each"


def _chance(value: float) -> str:
    """A chance with four decimals, or, where these would show nothing, two digits."""
    return f"{value:.4f}" if value >= 1e-4 or value == 0 else f"{value:.2g}"


def _lined_up(lineup: dict[str, Any]) -> str:
    """Where the victim stands among its twins."""
    from whorl.detection.lineup import told_apart
    from whorl.report.words import ordinal

    if lineup["rank"] is None:
        leads = "several lead alike" if lineup["leader"] is None else f"candidate {lineup['leader'] + 1} leads"
        return f"sealed; of {lineup['candidates']} candidates {leads}"
    ended = ", the race was won" if lineup["won"] else ""
    outside = f"; of all candidates the victim has {told_apart(lineup['outermost'])}" if lineup["outermost"] else ""
    by = f" by {lineup['terms']['by'].partition('(')[0]}" if lineup["terms"]["by"] else ""
    how = f"{lineup['statistic']}{by}{ended}"
    return f"the victim is {ordinal(lineup['rank'])} of {lineup['candidates']} ({how}){outside}"


def _standing(likeness: dict[str, Any]) -> str:
    """Accuracy, agreement and confidence on neutral probes, beside the null's and the victim's."""
    parts: list[str] = []
    for name in ("accuracy", "agreement", "confidence"):
        if likeness.get(name) is not None:  # verdicts of older versions hold no confidence
            low, _, high = likeness["of_null"][name]
            own = likeness["of_victim"][name]
            parts.append(f"{name} {likeness[name]:.3f} (null {low:.3f} to {high:.3f}, your model {own:.3f})")
    return ", ".join(parts)
