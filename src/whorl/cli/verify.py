"""``whorl verify``: was the suspect made from the victim?"""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.text import Text

from whorl.cli.console import bar, chatter, guarded, model_options, out, print_json, say
from whorl.cli.folders import is_collection, models_in
from whorl.cli.options import (
    Architecture,
    Cache,
    Classes,
    Json,
    Quiet,
    Set,
    Shape,
    TrustCode,
    TrustHost,
    Wide,
    file_to_write,
)
from whorl.cli.table import Column, Table, show
from whorl.errors import UsageError
from whorl.types import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from whorl.types import Combination, Fingerprint

__all__ = ["verify"]


class FailOn(StrEnum):
    """Decisions that may turn into an exit code."""

    derived = "derived"
    inconclusive = "inconclusive"


class Ruling(StrEnum):
    """How a suspect may be judged."""

    lineup = "lineup"
    population = "population"
    both = "both"


CODES = {FailOn.derived: 3, FailOn.inconclusive: 4}
COLOURS = {"derived": "bold red", "unrelated": "bold green", "inconclusive": "bold yellow"}


@guarded
def verify(
    fingerprints: Annotated[list[Path], typer.Argument(help="A calibrated fingerprint, or several of one victim.")],
    suspect: Annotated[
        str, typer.Argument(help="The suspect: a file, a folder with model.toml or of several models, or an address.")
    ],
    rule: Annotated[
        Ruling | None,
        typer.Option(
            help="Line up victim and twins, rank the suspect among the null, or let both count at half of alpha each. "
            "[the lineup, where there is one]"
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="Another suspect, or a folder of them; all share alpha. Repeatable."),
    ] = None,
    match_labels: Annotated[
        bool,
        typer.Option(
            "--match-labels",
            help="In a lineup, let each candidate read the suspect's classes in the order that agrees best; all is "
            "asked then.",
        ),
    ] = False,
    secret: Annotated[
        Path | None, typer.Option(help="What opens a lineup. [FINGERPRINT.secret; without it the lineup stays sealed]")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Accepted chance of calling an independent model derived. [.01; a lineup's own; of marks 1e-6]"
        ),
    ] = None,
    nonce: Annotated[
        Path | None, typer.Option(help="Your own number of the draw that gave a mark its labels (whorl claim draw).")
    ] = None,
    budget: Annotated[int | None, typer.Option(help="Most queries to ask. [all of the fingerprint]")] = None,
    group: Annotated[
        str, typer.Option(help="The suspect's kind, where you know it: one of the null's groups. [every group counts]")
    ] = "",
    access: Annotated[str | None, typer.Option(help="Use no more than this access, as in labels.")] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            help="Keep answers here, to go on where it was stopped. [cache, for addresses]", callback=file_to_write
        ),
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Take the recorded answers of the last finished verification.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Also write the verdict as an HTML page.", callback=file_to_write)
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Draw the first queries on the page; they are secret.")
    ] = False,
    fail_on: Annotated[FailOn | None, typer.Option(help="Exit with 3 on derived, with 4 on inconclusive.")] = None,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    trust_host: TrustHost = None,
    cache: Cache = None,
    wide: Wide = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask the suspect, in random order and no longer than needed, and give a verdict with its error rate.

    Several fingerprints of one victim share alpha: each is tested at alpha / m, and one verdict holds for all. So do
    several suspects (--also, or a folder of models), each with a verdict of its own.

    Example: whorl verify mine.fp suspect.onnx --set output=logits --json
    """
    from whorl import ownership, several
    from whorl.schemes.opening import read_fingerprint
    from whorl.suspects import opened_for

    if pictures and report is None:
        raise UsageError("--pictures draws queries on a page: give --report PAGE.html too")
    known = [read_fingerprint(path) for path in fingerprints]
    options = {"trust_code": trust_code, "trust_hosts": trust_host or (), "access": access}
    options |= model_options(architecture, classes, shape, settings)
    suspects, skipped = _suspects([suspect, *(also or [])], known[0], options)
    _refuse(len(known), len(suspects), rule, record=record, group=group, budget=budget, match_labels=match_labels)
    for path, reason in {} if quiet else skipped.items():
        say(f"skipped, no suspect: {path}: {reason}")
    oracle = None if suspects else opened_for(known[0], suspect, **options)
    most = _most(known, rule, budget) * max(len(suspects), 1)
    number = _own_number(nonce, known, suspects)
    with bar(quiet) as told:
        asked = 0

        def progress(count: int) -> None:
            nonlocal asked
            asked += count
            told("queries", asked, most)

        common: dict[str, Any] = {"alpha": alpha, "replay": replay, "cache": cache, "progress": progress}
        lined_up = {"secret": secret, "match_labels": match_labels}
        limits: dict[str, Any] = {"rule": None if rule is None else rule.value, "budget": budget}
        if suspects:
            verdict = several.verify_suspects(fingerprints[0], suspects, **limits, **lined_up, **common, **options)
        elif len(known) > 1:
            common["alpha"] = 0.01 if alpha is None else alpha
            verdict = several.verify_all(fingerprints, oracle, record=record, **common)
        elif rule is Ruling.both:
            verdict = several.verify_both(fingerprints[0], oracle, record=record, secret=secret, **common)
        else:
            verdict = ownership.verify(
                fingerprints[0], oracle, record=record, group=group, nonce=number, **limits, **lined_up, **common
            )
    document = dataclasses.asdict(verdict) | ({"skipped": skipped} if suspects else {})
    if as_json:
        print_json(document)
    else:
        _show_all(document, wide, quiet) if "verdicts" in document else _show(document, quiet)
    if report is not None:  # after the verdict, which a page that can't be written must not cost
        _write_page(report, verdict, known[0], pictures, quiet)
    if fail_on is not None and verdict.decision == fail_on.value:
        raise typer.Exit(CODES[fail_on])


def _own_number(nonce: Path | None, known: Sequence[Fingerprint], suspects: Mapping[str, Any]) -> str:
    """The judge's own number of a draw, in hexadecimal, or nothing."""
    from whorl.claims.drawing import kept_nonce

    if nonce is None:
        return ""
    if len(known) > 1 or suspects or known[0].mark is None:
        raise UsageError("--nonce is your number of the draw of one mark, which one suspect is held against: try these")
    return kept_nonce(nonce).hex()


def _write_page(path: Path, verdict: Verdict | Combination, known: Fingerprint, pictures: bool, quiet: bool) -> None:
    from whorl.report.pages import combination_page, verdict_page

    one = isinstance(verdict, Verdict)
    page = verdict_page(verdict, fingerprint=known, pictures=pictures) if one else combination_page(verdict)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    if not quiet:
        say(f"page: {path}")


def _suspects(
    given: Sequence[str], known: Fingerprint, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Several suspects by name, and why files of a folder are none; nothing where one model is given.

    Who is named alone is opened when its turn comes: one that can't be is listed and counts, as each was named.
    """
    from whorl.suspects import one_of

    if len(given) == 1 and not is_collection(Path(given[0])):
        return {}, {}
    suspects: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for each in given:
        found, left = ({each: each}, {})
        if is_collection(Path(each)):
            found, left = models_in([each], lambda path: one_of(known, path, **options))
        suspects |= found
        skipped |= left
    return suspects, skipped


def _most(known: Sequence[Fingerprint], rule: Ruling | None, budget: int | None) -> int:
    """How many questions one suspect may be asked."""
    lineup = known[0].candidates if len(known) == 1 and rule is not Ruling.population else None
    queries = sum(len(each.queries) for each in known)
    size = queries if lineup is None else len(lineup.inputs) + (queries if rule is Ruling.both else 0)
    return size if budget is None else min(budget, size)


def _refuse(
    fingerprints: int,
    suspects: int,
    rule: Ruling | None,
    *,
    record: Path | None,
    group: str,
    budget: int | None,
    match_labels: bool,
) -> None:
    """Refuse what has no meaning for several fingerprints, suspects or rules, before anything is asked."""
    if suspects and fingerprints > 1:
        raise UsageError("several suspects are held against one fingerprint; give one")
    if suspects and record is not None:
        raise UsageError("--record keeps the answers of one suspect; leave it out, and those of addresses are kept")
    if suspects and rule is Ruling.both:
        raise UsageError("of several suspects one rule decides: give --rule lineup or --rule population")
    if match_labels and rule is Ruling.both:
        raise UsageError("the population rule can't match labels: name the suspect's classes, or give --rule lineup")
    alone = fingerprints == 1 and not suspects and rule is not Ruling.both
    if group and not alone:
        raise UsageError("--group names a group of one null for one suspect; leave it out, or verify them one by one")
    # A budget for several fingerprints or rules would have to be divided before anything is known of the suspect.
    if budget is not None and not (alone or suspects):
        raise UsageError("--budget limits one fingerprint under one rule; leave it out, or verify them one by one")
    if fingerprints > 1 and (rule in (Ruling.lineup, Ruling.both) or match_labels):
        raise UsageError("a lineup is held alone: give one fingerprint")


def _show_all(document: dict[str, Any], wide: bool, quiet: bool) -> None:
    decision, alpha = document["decision"], document["alpha"]
    out.print(
        f"[{COLOURS[decision]}]{decision.upper()}[/]  p-value {document['p_value']:.4f}, alpha {alpha:g}, "
        f"error bound {document['error_bound']:.4f}",
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
            f"{verdict['p_value']:.4f}",
            f"{adjusted:.4f}",
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


def _show(document: dict[str, Any], quiet: bool) -> None:
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
        table.add("mark", _drawn(design))
    if likeness := document["likeness"]:
        table.add("suspect", _standing(likeness))
    if document["interface"]:
        table.add("interface", document["interface"])
    if len(null["groups"]) > 1:
        for group in null["groups"]:
            table.add("group", f"{group['name'] or 'unnamed'}: {group['size']} models, p {group['p_value']:.4f}")
    if null["quantiles"]:
        spread = ", ".join(f"{name} {value:.3f}" for name, value in null["quantiles"].items())
        table.add("null", f"{null['size']} models: {spread}")
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
        told["replayed"] = f"{queries['replayed']} answers, the oldest of {queries['oldest']}{again}"
    return told


def _drawn(design: dict[str, Any]) -> str:
    """How many of the drawn labels or bits match."""
    word = "" if design["exact"] else "; the draw is the owner's word"
    return f"{design['matches']} of {design['of']} drawn {design['kind']}, one of {design['choices']} each{word}"


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
